-- Makes a batch, once.
--
-- KEYS  1 batch hash   2 batches of the owner   3 open batches   4 file hash of the input
-- ARGV  1 batch id   2 owner   3 Unix microseconds   4... fields and values of the hash, by turns
-- Reply 1 made, or made before; 0 the input is not there, or not the owner's

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
if redis.call('HGET', KEYS[4], 'owner') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'status', 'validating', unpack(ARGV, 4))
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
return 1
