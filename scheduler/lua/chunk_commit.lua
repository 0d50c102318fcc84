-- Records what came of a chunk of a backfill. The first commit wins, whoever holds the chunk by then.
--
-- KEYS  1 open   2 leases   3 tokens   4 results   5 totals
-- ARGV  1 chunk number   2 result (JSON)   3 rows   4 bad rows   5 duplicates
-- Reply 1 recorded, now or by the same commit before whose reply was lost; 0 the chunk was done otherwise

local number = ARGV[1]
if redis.call('HSETNX', KEYS[4], number, ARGV[2]) == 0 then
  return redis.call('HGET', KEYS[4], number) == ARGV[2] and 1 or 0
end
redis.call('ZREM', KEYS[1], number)
redis.call('ZREM', KEYS[2], number)
redis.call('HDEL', KEYS[3], number)
if tonumber(number) >= 0 then
  redis.call('HINCRBY', KEYS[5], 'done', 1)
  redis.call('HINCRBY', KEYS[5], 'rows', ARGV[3])
  redis.call('HINCRBY', KEYS[5], 'bad', ARGV[4])
  redis.call('HINCRBY', KEYS[5], 'duplicates', ARGV[5])
end
return 1
