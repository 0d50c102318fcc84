-- Accepts a request: its hash and all its items, or nothing.
--
-- KEYS  1 request hash   2 lane stream
-- ARGV  1 request id   2 channel of the waiting api process   3 TTL of the request in ms   4 its deadline in Unix ms, 0 for
--       none   5 msgpack: the encoded items, in the order of their index, which starts at 0
-- Reply 1 accepted; 0 the request is known already and nothing was changed

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local items = cmsgpack.unpack(ARGV[5])
local count = #items
redis.call('HSET', KEYS[1], 'count', count, 'remaining', count, 'channel', ARGV[2])
if ARGV[4] ~= '0' then
  redis.call('HSET', KEYS[1], 'deadline', ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for i, item in ipairs(items) do
  redis.call('XADD', KEYS[2], '*', 'request', ARGV[1], 'index', i - 1, 'item', item, 'attempts', 0, 'reasons', '',
    'deadline', ARGV[4])
end
return 1
