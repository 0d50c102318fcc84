-- What the steps of jobs share. `lua.py` puts it before each of them, behind prelude and outbox, so it is not a step itself.
--
-- All keys are made here from KEYS[1], the prefix of jobs, which carries their hash tag. `scheduler/keys.py` lists them.

local PREFIX = KEYS[1]
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

local WAITING, INDEX, JOB, ENDED, BY_KEY =
  PREFIX .. 'jobs:waiting:', PREFIX .. 'jobs:of:', PREFIX .. 'job:', PREFIX .. 'job-ended:', PREFIX .. 'job-key:'
local OWNERS, RUNNING, DUE, COUNTERS =
  PREFIX .. 'jobs:owners', PREFIX .. 'jobs:running', PREFIX .. 'jobs:due', PREFIX .. 'jobs:counters'
local HELD, WIDTHS = PREFIX .. 'jobs:held', PREFIX .. 'jobs:widths'
local COMING, NEWS = PREFIX .. 'jobs:coming', PREFIX .. 'jobs:news'

-- How long it is known that there was a job whose result is gone, so that its owner hears 410 and not 404.
local REMEMBERED_MS = 7 * 86400000

local FINAL = {succeeded = true, failed = true, cancelled = true, expired = true}

-- Lets a job wait in its place. Its owner is not served for `pause` ms, nor before a longer pause is over; without one the
-- turn of an owner that waits already stays as it is, or who submits often would never have one.
local function queue_job(id, owner, place, pause)
  redis.call('ZADD', WAITING .. owner, place, id)
  redis.call('ZADD', OWNERS, pause > 0 and 'GT' or 'NX', now_us + pause * 1000, owner)
  redis.call('PUBLISH', COMING, '')
end

-- Takes a job from its runner. Its owner, who may have as many running as it is allowed, is served again.
local function free_job(id, owner)
  redis.call('ZREM', RUNNING, id)
  redis.call('HDEL', JOB .. id, 'runner')
  if redis.call('HINCRBY', HELD, owner, -1) <= 0 then
    redis.call('HDEL', HELD, owner)
  end
  if redis.call('EXISTS', WAITING .. owner) == 1 and redis.call('ZADD', OWNERS, 'NX', now_us, owner) == 1 then
    redis.call('PUBLISH', COMING, '')
  end
end

-- Ends a job, once, and sets the clock of its result. True when it was this call that ended it.
local function end_job(id, status, code, headers, reply, ttl, webhook)
  local found = redis.call('HMGET', JOB .. id, 'status', 'owner', 'key')
  local owner = found[2]
  if not found[1] or FINAL[found[1]] then
    return false
  end
  redis.call('ZREM', WAITING .. owner, id)
  if found[1] == 'running' then
    free_job(id, owner)
  end
  redis.call('HSET', JOB .. id, 'status', status, 'finished', now, 'kept', now + ttl, 'code', code, 'reply_headers', headers,
    'reply', reply)
  redis.call('HDEL', JOB .. id, 'body', 'headers', 'webhook')
  redis.call('PEXPIRE', JOB .. id, ttl)
  if found[3] ~= '' then
    redis.call('PEXPIRE', BY_KEY .. found[3], ttl)
  end
  redis.call('ZADD', DUE, now + ttl, id)
  redis.call('SET', ENDED .. id, owner, 'PX', ttl + REMEMBERED_MS)
  redis.call('HINCRBY', COUNTERS, status, 1)
  redis.call('PUBLISH', NEWS, id)
  post_webhook(PREFIX, webhook)
  return true
end
