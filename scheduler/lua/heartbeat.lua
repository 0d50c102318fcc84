-- A worker says that it lives, and hears how many micro-batches it holds, those on their way to it included.
--
-- KEYS  1 workers set   2 worker hash   3 held
-- ARGV  1 worker id   2 TTL in ms   3 scheduler channel   4... the hash's fields and values
-- Reply the number of micro-batches

redis.call('SADD', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('PUBLISH', ARGV[3], 'worker')
end
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or 0)
