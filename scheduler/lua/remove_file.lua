-- Forgets a file; its content is removed by who asks, before.
--
-- KEYS  1 file hash   2 files of the owner   3 expiring files
-- ARGV  1 file id
-- Reply how many there were, 1 or 0

redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1])
