-- The first chunks of a backfill that nobody holds and nobody has done; claims that ran out go back before.
--
-- KEYS  1 open   2 leases   3 tokens
-- ARGV  1 how many at most
-- Reply their numbers, in order

for _, number in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  redis.call('ZREM', KEYS[2], number)
  redis.call('HDEL', KEYS[3], number)
  redis.call('ZADD', KEYS[1], number, number)
end
return redis.call('ZRANGEBYSCORE', KEYS[1], 0, '+inf', 'LIMIT', 0, ARGV[1])
