-- Lets jobs wait again whose process died, forgets those whose result's time is over, and finds those that have expired.
--
-- KEYS  1 prefix
-- ARGV  1 most jobs of each kind
-- Reply {how many wait again, {id and webhook of each that has expired, to be ended by job_end}}

local lost = redis.call('ZRANGEBYSCORE', RUNNING, '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(lost) do
  redis.call('ZREM', RUNNING, id)
  local found = redis.call('HMGET', JOB .. id, 'owner', 'place')
  if found[1] then
    redis.call('HSET', JOB .. id, 'status', 'queued')
    queue_job(id, found[1], found[2], 0)
    free_job(id, found[1])
  end
end

local expired = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local found = redis.call('HMGET', JOB .. id, 'status', 'webhook')
  if found[1] and not FINAL[found[1]] then
    table.insert(expired, {id, found[2]})
  else
    local owner = redis.call('GET', ENDED .. id)
    if owner then
      redis.call('ZREM', INDEX .. owner, id)
    end
    redis.call('DEL', JOB .. id)
    redis.call('ZREM', DUE, id)
  end
end
return {#lost, expired}
