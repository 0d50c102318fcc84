-- What the steps share that keep files; `lua.py` puts it before each of them, so it is not a step itself.
--
-- KEYS  1 blobs   2 sizes   3 ends
-- ARGV  1 prefix of blobs   2 prefix of their users   3 prefix of requests   4 bytes that count for a blob beside its own
--
-- A request uses a blob while its hash is there, and for a while before that: it is handed in after its files are kept.
-- The keys of blobs and users are made from a prefix and a name, the blob's SHA-256; those of the ones that go are only
-- found here. They carry the model's hash tag like every key in KEYS.

local BLOBS, SIZES, ENDS = KEYS[1], KEYS[2], KEYS[3]
local BLOB, USERS, REQUEST, OVERHEAD = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

-- The most blobs that a step looks at in vain, and that it lets go: others wait for Redis meanwhile.
local LOOKED_AT = 256

-- When this step uses blobs: now, but later than any step before, whatever the clock says. So the order of use is strict.
local moment = math.max(now, tonumber(redis.call('ZRANGE', BLOBS, -1, -1, 'WITHSCORES')[2] or 0) + 1)

local living = {}

local function lives(request)
  if living[request] == nil then
    living[request] = redis.call('EXISTS', REQUEST .. request) == 1
  end
  return living[request]
end

-- Whether a request needs a blob that is not over; users that are over are forgotten.
local function in_use(name)
  local users = USERS .. name
  if redis.call('ZCOUNT', users, '(' .. now, '+inf') > 0 then
    return true
  end
  for _, request in ipairs(redis.call('ZREVRANGE', users, 0, -1)) do
    if lives(request) then
      return true
    end
    redis.call('ZREM', users, request)
  end
  return false
end

-- Notes that a request needs a blob that is there, until `finish` at least.
local function use(name, request, grace, finish)
  local users = USERS .. name
  -- One that is used all the time is never let go, so its users are looked through here: two for each that comes.
  for _, earlier in ipairs(redis.call('ZRANGEBYSCORE', users, '-inf', now, 'LIMIT', 0, 2)) do
    if lives(earlier) then
      redis.call('ZADD', users, now, earlier)
    else
      redis.call('ZREM', users, earlier)
    end
  end
  finish = math.max(finish, tonumber(redis.call('ZSCORE', ENDS, name) or 0))
  redis.call('ZADD', BLOBS, moment, name)
  redis.call('ZADD', ENDS, finish, name)
  redis.call('ZADD', users, now + grace, request)
  redis.call('PEXPIREAT', BLOB .. name, finish)
  redis.call('PEXPIREAT', users, finish)
end

local function forget(name)
  local bytes = tonumber(redis.call('HGET', SIZES, name) or 0)
  redis.call('DEL', BLOB .. name, USERS .. name)
  redis.call('ZREM', BLOBS, name)
  redis.call('ZREM', ENDS, name)
  redis.call('HDEL', SIZES, name)
  redis.call('HINCRBY', SIZES, 'total', -bytes)
end

-- By how many bytes there are too many, were so many more blobs with so many bytes kept.
local function excess(count, bytes, budget)
  local blobs = redis.call('ZCARD', BLOBS) + count
  return tonumber(redis.call('HGET', SIZES, 'total') or 0) + bytes + blobs * OVERHEAD - budget
end

-- Lets go of blobs until so many more with so many bytes have room: those whose time has run out, and then those that
-- have not been used for the longest time. `room`: there is; `full`: nothing is left but what is in use; `more`: there may
-- be, when the step is repeated with the `since` of the first, its `moment`: what was used since then is not looked at.
local function make_room(count, bytes, budget, since)
  local ended = redis.call('ZRANGEBYSCORE', ENDS, '-inf', now, 'LIMIT', 0, LOOKED_AT)
  for _, name in ipairs(ended) do
    forget(name)
  end
  if excess(count, bytes, budget) <= 0 then
    return 'room'
  end
  local oldest = redis.call('ZRANGEBYSCORE', BLOBS, '-inf', '(' .. since, 'LIMIT', 0, LOOKED_AT)
  for _, name in ipairs(oldest) do
    if in_use(name) then
      redis.call('ZADD', BLOBS, moment, name)
    else
      forget(name)
      redis.call('HINCRBY', SIZES, 'evicted', 1)
      if excess(count, bytes, budget) <= 0 then
        return 'room'
      end
    end
  end
  return (#ended == LOOKED_AT or #oldest == LOOKED_AT) and 'more' or 'full'
end
