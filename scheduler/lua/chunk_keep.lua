-- Who holds a chunk of a backfill keeps it for a while longer, or gives it back.
--
-- KEYS  1 open   2 leases   3 tokens
-- ARGV  1 chunk number   2 token of the claim   3 lease in ms; 0 gives it back
-- Reply 1 done; 0 the chunk is not held by this claim any more

local number = ARGV[1]
if redis.call('HGET', KEYS[3], number) ~= ARGV[2] then
  return 0
end
local lease = tonumber(ARGV[3])
if lease > 0 then
  redis.call('ZADD', KEYS[2], now + lease, number)
else
  redis.call('ZREM', KEYS[2], number)
  redis.call('HDEL', KEYS[3], number)
  redis.call('ZADD', KEYS[1], number, number)
end
return 1
