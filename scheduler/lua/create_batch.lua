-- Makes a batch, once.
--
-- KEYS  1 batch hash   2 batches of the owner   3 open batches of the owner   4 owners   5 file hash of the input   6 its readers
-- ARGV  1 batch id   2 owner   3 owner as the keys have it   4 Unix microseconds   5... fields and values of the hash, by turns
-- Reply 1 made, or made before; 0 the input is not there, is not the owner's, or its time is over

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
local file = redis.call('HMGET', KEYS[5], 'owner', 'expires')
if file[1] ~= ARGV[2] or (file[2] ~= '0' and tonumber(file[2]) * 1000 <= now) then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'status', 'validating', unpack(ARGV, 5))
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
-- An owner that waits already keeps its turn, or who hands in often would never have one.
redis.call('ZADD', KEYS[4], 'NX', ARGV[4], ARGV[3])
redis.call('SADD', KEYS[6], ARGV[1])
return 1
