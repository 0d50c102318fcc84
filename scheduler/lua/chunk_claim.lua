-- Gives a chunk of a backfill to who asks for it, for a limited time.
--
-- KEYS  1 chunks   2 open   3 leases   4 tokens   5 results
-- ARGV  1 chunk number   2 token of the claim   3 lease in ms
-- Reply the chunk (JSON); false where it is done, held by another, or not recorded. A claim that is repeated, because its
--       reply was lost, comes out the same.

local number = ARGV[1]
local chunk = redis.call('HGET', KEYS[1], number)
if not chunk or redis.call('HEXISTS', KEYS[5], number) == 1 then
  return false
end
local ends = redis.call('ZSCORE', KEYS[3], number)
if ends and tonumber(ends) > now and redis.call('HGET', KEYS[4], number) ~= ARGV[2] then
  return false
end
redis.call('ZREM', KEYS[2], number)
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[3]), number)
redis.call('HSET', KEYS[4], number, ARGV[2])
return chunk
