-- Keeps a blob that a request needs, and lets go of those that have not been used for the longest time.
--
-- KEYS  1 blobs   2 sizes
-- ARGV  1 request id   2 ms for which it counts though its hash is not there yet   3 TTL in ms   4 prefix of blobs
--       5 prefix of their users   6 prefix of requests   7 the most bytes of all   8 the blob's name   9 its bytes
-- Reply -1 it is kept; or else the bytes of all: nothing was changed, for what lies there is needed by others
--
-- What a request needs stays while its hash is there, and for a while before that.

local PAGE = 100
local name, data = ARGV[8], ARGV[9]
local total = tonumber(redis.call('HGET', KEYS[2], 'total') or 0)

local function forget(old)
  local size = tonumber(redis.call('HGET', KEYS[2], old) or 0)
  redis.call('DEL', ARGV[4] .. old, ARGV[5] .. old)
  redis.call('ZREM', KEYS[1], old)
  redis.call('HDEL', KEYS[2], old)
  total = redis.call('HINCRBY', KEYS[2], 'total', -size)
end

local function needed(old)
  local users = redis.call('ZRANGE', ARGV[5] .. old, 0, -1, 'WITHSCORES')
  for place = #users - 1, 1, -2 do
    if tonumber(users[place + 1]) > now or redis.call('EXISTS', ARGV[6] .. users[place]) == 1 then
      return true
    end
  end
  return false
end

-- Those whose time has run out are only known by their size.
for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, PAGE - 1)) do
  if redis.call('EXISTS', ARGV[4] .. old) == 0 then
    forget(old)
  end
end

if redis.call('EXISTS', ARGV[4] .. name) == 0 then
  local looked_at, blobs = 0, redis.call('ZCARD', KEYS[1])
  while total + #data > tonumber(ARGV[7]) and looked_at < blobs do
    for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, PAGE - 1)) do
      looked_at = looked_at + 1
      if needed(old) then
        -- In use now: the next search begins with others.
        redis.call('ZADD', KEYS[1], now, old)
      elseif total + #data > tonumber(ARGV[7]) then
        forget(old)
      end
    end
  end
  if total + #data > tonumber(ARGV[7]) then
    return total
  end
  redis.call('SET', ARGV[4] .. name, data)
  redis.call('HSET', KEYS[2], name, #data)
  redis.call('HINCRBY', KEYS[2], 'total', #data)
end
redis.call('ZADD', KEYS[1], now, name)
redis.call('ZADD', ARGV[5] .. name, now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', ARGV[4] .. name, ARGV[3])
redis.call('PEXPIRE', ARGV[5] .. name, ARGV[3])
return -1
