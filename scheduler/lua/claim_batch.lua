-- Gives a process the next part of a batch to work on. Owners take turns, and among the batches of an owner these do.
--
-- A batch whose time is over goes to its end here; its chunks are claimed no more.
--
-- KEYS  1 owners (all others are made of the prefix, which carries its hash tag)
-- ARGV  1 prefix   2 token   3 lease in ms   4 Unix microseconds   5 whether chunks are wanted, 1 or 0   6 whether stages are
--       7... owners of whom no chunks are wanted
-- Reply {batch id, part, owner}, or nil when there is nothing to do

local prefix, token, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local stages, slow = ARGV[6] == '1', {}
for i = 7, #ARGV do
  slow[ARGV[i]] = true
end

-- The part of a batch that is to be done next, or nil.
local function part_of(batch, open, claims, chunks_wanted)
  local key = prefix .. 'batch:' .. batch
  local found = redis.call('HMGET', key, 'status', 'expires', 'chunks', 'next')
  local status, expires = found[1], tonumber(found[2] or 0)
  if not status then
    redis.call('ZREM', open, batch)
    return nil
  end
  if (status == 'in_progress' or status == 'validating') and expires * 1000 <= now then
    status = 'finalizing'
    redis.call('HSET', key, 'status', status, 'ending', 'expired', 'finalizing_at', math.floor(now / 1000))
  end
  if status == 'in_progress' then
    if not chunks_wanted then
      return nil
    end
    local late = redis.call('ZRANGEBYSCORE', claims, '-inf', now, 'LIMIT', 0, 1)[1]
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
  if not stages then
    return nil
  end
  -- What others have of it they write down first, or lose.
  redis.call('ZREMRANGEBYSCORE', claims, '-inf', now)
  if redis.call('ZCARD', claims) > 0 then
    return nil
  end
  if status == 'validating' then
    return 'validate'
  end
  redis.call('DEL', key .. ':holders')
  return 'finish'
end

for _, owner in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local open = prefix .. 'batches:open:' .. owner
  for _, batch in ipairs(redis.call('ZRANGE', open, 0, -1)) do
    local key = prefix .. 'batch:' .. batch
    local part = part_of(batch, open, key .. ':claims', ARGV[5] == '1' and not slow[owner])
    if part then
      take(key .. ':claims', key .. ':holders', part, token, lease)
      redis.call('ZADD', open, ARGV[4], batch)
      redis.call('ZADD', KEYS[1], ARGV[4], owner)
      return {batch, part, owner}
    end
  end
  if redis.call('EXISTS', open) == 0 then
    redis.call('ZREM', KEYS[1], owner)
  end
end
return false
