-- Forgets a file that no batch reads. Its content goes next; if who does that dies, the sweep finds it.
--
-- KEYS  1 file hash   2 files of the owner   3 expiring files   4 readers
-- ARGV  1 file id
-- Reply '' forgotten; the id of a batch that reads it

local reader = redis.call('SRANDMEMBER', KEYS[4])
if reader then
  return reader
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return ''
