-- Begins jobs: of each owner the first in its queue, the owner first whose turn is longest ago.
--
-- KEYS  1 prefix
-- ARGV  1 token of this claim, which renews, and gives back   2 most jobs   3 bytes of bodies from which on no more are
--       taken   4 lease in ms
-- Reply for each {id, owner, path, body, headers, lane, attempts with this one, ms until it expires, webhook}

local taken, bytes, turns = {}, 0, 0
while #taken < tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
  local owner = redis.call('ZRANGEBYSCORE', OWNERS, '-inf', now_us + turns, 'LIMIT', 0, 1)[1]
  if not owner then
    break
  end
  local id = redis.call('ZRANGE', WAITING .. owner, 0, 0)[1]
  local width = tonumber(redis.call('HGET', WIDTHS, owner) or 0)
  -- One who has as many running as it may comes back when one of them ends (free_job).
  if not id or (width > 0 and tonumber(redis.call('HGET', HELD, owner) or 0) >= width) then
    redis.call('ZREM', OWNERS, owner)
  else
    turns = turns + 1
    redis.call('ZADD', OWNERS, now_us + turns, owner)
    redis.call('ZREM', WAITING .. owner, id)
    local found = redis.call('HMGET', JOB .. id, 'path', 'body', 'headers', 'lane', 'expires', 'webhook')
    local left = found[1] and tonumber(found[5]) - now or 0
    -- One whose time is over is left to the sweep, which ends it.
    if left > 0 then
      local attempts = redis.call('HINCRBY', JOB .. id, 'attempts', 1)
      redis.call('HSET', JOB .. id, 'status', 'running', 'runner', ARGV[1])
      redis.call('HSETNX', JOB .. id, 'started', now)
      redis.call('HINCRBY', HELD, owner, 1)
      redis.call('ZADD', RUNNING, now + tonumber(ARGV[4]), id)
      table.insert(taken, {id, owner, found[1], found[2], found[3], found[4], attempts, left, found[6]})
      bytes = bytes + #found[2]
    end
  end
end
return taken
