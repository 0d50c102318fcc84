-- Accepts a job, unless it is known or Redis keeps nothing on disk.
--
-- KEYS  1 prefix
-- ARGV  1 id   2 owner   3 digest of the idempotency key, '' for none   4 fingerprint of the call   5 number of its lane
--       6 ms until it expires   7 how many of the owner's jobs may run at once, 0 any number   8... fields of the call and
--       their values by turns: path, lane, headers, body, webhook
-- Reply {state, id}: `new`; `same`, the job that this idempotency key has made already; `other`, that one is of another
--       call; `undurable`, the server has no append-only file
--
-- A job's place orders the owner's jobs by lane and then by age. 2^50 jobs fit between two lanes, and a double holds both.

local id, owner, digest, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if not string.find(redis.call('INFO', 'persistence'), 'aof_enabled:1', 1, true) then
  return {'undurable', ''}
end
if redis.call('EXISTS', JOB .. id) == 1 then
  return {'new', id}
end
if digest ~= '' then
  local known = redis.call('HMGET', BY_KEY .. digest, 'id', 'fingerprint')
  if known[1] and redis.call('EXISTS', JOB .. known[1]) == 1 then
    return {known[2] == fingerprint and 'same' or 'other', known[1]}
  end
  redis.call('DEL', BY_KEY .. digest)
  redis.call('HSET', BY_KEY .. digest, 'id', id, 'fingerprint', fingerprint)
end
local number = redis.call('INCR', PREFIX .. 'jobs:count')
local place = tonumber(ARGV[5]) * 2 ^ 50 + number
local expires = now + tonumber(ARGV[6])
redis.call('HSET', JOB .. id, 'owner', owner, 'key', digest, 'status', 'queued', 'place', string.format('%.0f', place),
  'created', now, 'expires', expires, 'attempts', 0, unpack(ARGV, 8))
redis.call('ZADD', INDEX .. owner, number, id)
redis.call('ZADD', DUE, expires, id)
redis.call('HINCRBY', COUNTERS, 'submitted', 1)
if ARGV[7] == '0' then
  redis.call('HDEL', WIDTHS, owner)
else
  redis.call('HSET', WIDTHS, owner, ARGV[7])
end
queue_job(id, owner, place, 0)
return {'new', id}
