-- A worker begins a micro-batch that was sent to it: it gets the items, and the lease runs from now.
--
-- KEYS  1 leases   2 batch hash   3 claims   4 counters   5 held   6 7 8 lanes   9 queued
-- ARGV  1 batch id   2 worker id   3 lease in ms   4 request prefix   5 scheduler channel
-- Reply nil when the batch is gone or another worker's; else a list of {lane number, entry id, encoded item}, without the
--       items whose callers have left or whose deadlines have passed. When none is left the lease ends here.

if redis.call('HGET', KEYS[2], 'worker') ~= ARGV[2] then
  return false
end

local items = {}
for _, entry in ipairs(cmsgpack.unpack(redis.call('HGET', KEYS[2], 'entries'))) do
  local lane, id = entry[1], entry[2]
  local fields = entry_fields(KEYS[6 + lane], id)
  if fields and waiting_channel(ARGV[4] .. fields[REQUEST]) then
    table.insert(items, {lane, id, fields[ITEM]})
  elseif fields then
    drop(lane, KEYS[6 + lane], id, fields, KEYS[4])
    redis.call('HDEL', KEYS[3], lane .. '/' .. id)
  end
end

count_out(KEYS[9])
if #items == 0 then
  end_lease(KEYS[1], KEYS[2], KEYS[5], ARGV[1], ARGV[5])
  return items
end
redis.call('HSET', KEYS[2], 'claimed', now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
return items
