-- Lets a job that runs wait again, in its old place.
--
-- KEYS  1 prefix
-- ARGV  1 id   2 token of its claim   3 ms until its owner is served again   4 whether the attempt counts, 1 or 0
-- Reply 1 it waits, 0 it has ended, or another runs it

local found = redis.call('HMGET', JOB .. ARGV[1], 'runner', 'owner', 'place')
if found[1] ~= ARGV[2] then
  return 0
end
redis.call('HSET', JOB .. ARGV[1], 'status', 'queued')
if ARGV[4] == '0' then
  redis.call('HINCRBY', JOB .. ARGV[1], 'attempts', -1)
end
queue_job(ARGV[1], found[2], found[3], tonumber(ARGV[3]))
free_job(ARGV[1], found[2])
return 1
