-- Makes a file known, once its content lies in the storage.
--
-- KEYS  1 file hash   2 files of the owner   3 expiring files
-- ARGV  1 file id   2 Unix microseconds   3 expiry in Unix seconds, 0: never   4... fields and values of the hash, by turns
-- Reply 1

redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
if ARGV[3] ~= '0' then
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
end
return 1
