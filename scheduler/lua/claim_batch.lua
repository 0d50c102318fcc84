-- Gives a process the next part of a batch to work on: of the batch that has waited longest for a place.
--
-- A batch whose time is over goes to its end here; its chunks are claimed no more.
--
-- KEYS  1 open batches (all others are made of the prefix, which carries its hash tag)
-- ARGV  1 prefix   2 token   3 lease in ms   4 Unix microseconds
-- Reply {batch id, part}, or nil when there is nothing to do

local prefix, token, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- The part of a batch that is to be done next, or nil.
local function part_of(batch, claims)
  local key = prefix .. 'batch:' .. batch
  local found = redis.call('HMGET', key, 'status', 'expires', 'chunks', 'next')
  local status, expires = found[1], tonumber(found[2] or 0)
  if not status then
    redis.call('ZREM', KEYS[1], batch)
    return nil
  end
  if (status == 'in_progress' or status == 'validating') and expires * 1000 <= now then
    status = 'finalizing'
    redis.call('HSET', key, 'status', status, 'ending', 'expired', 'finalizing_at', math.floor(now / 1000))
  end
  local late = redis.call('ZRANGEBYSCORE', claims, '-inf', now, 'LIMIT', 0, 1)[1]
  if status == 'validating' then
    return redis.call('ZCARD', claims) == 0 and 'validate' or (late == 'validate' and late or nil)
  elseif status == 'in_progress' then
    if late then
      return late
    end
    local chunks, next = tonumber(found[3] or 0), tonumber(found[4] or 0)
    if next < chunks then
      redis.call('HSET', key, 'next', next + 1)
      return tostring(next)
    end
    return nil
  end
  -- To its end: what others have of it they write down first, or lose.
  redis.call('ZREMRANGEBYSCORE', claims, '-inf', now)
  if redis.call('ZCARD', claims) > 0 then
    return nil
  end
  redis.call('DEL', key .. ':holders')
  return 'finish'
end

for _, batch in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local claims = prefix .. 'batch:' .. batch .. ':claims'
  local part = part_of(batch, claims)
  if part then
    take(claims, prefix .. 'batch:' .. batch .. ':holders', part, token, lease)
    redis.call('ZADD', KEYS[1], ARGV[4], batch)
    return {batch, part}
  end
end
return false
