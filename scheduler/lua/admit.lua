-- Lets a call of a tenant begin and counts it, or changes nothing when a limit is reached.
--
-- KEYS  1 usage hash   2 calls sorted set
-- ARGV  1 call id   2 its tokens   3 tokens allowed a minute, 0 any number   4 calls allowed at once, 0 any number
--       5 lease of a call in ms
-- Reply {refused by tokens, refused by calls, calls that run, tokens left, ms until no token counts any more, ms until the
--       tokens of this call would be free, mean ms of a call}; the call itself counts when it was let in
--
-- Tokens leak out of the usage as fast as the limit allows, so the limit is also the largest burst. A call whose process
-- died counts until its lease runs out.

local id, tokens, rate, width, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local DEFAULT_CALL_MS = 1000

local usage = redis.call('HMGET', KEYS[1], 'used', 'at', 'call_ms')
local used, per_ms = 0, rate / 60000
if rate > 0 then
  -- A clock that was set back lets nothing leak; it must not fill the usage either.
  local elapsed = math.max(0, now - tonumber(usage[2] or now))
  used = math.max(0, tonumber(usage[1] or 0) - elapsed * per_ms)
end
local call_ms = tonumber(usage[3] or DEFAULT_CALL_MS)

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local running = redis.call('ZCARD', KEYS[2])
-- A call whose first answer was lost on the way asks again: it is in already.
local known = redis.call('ZSCORE', KEYS[2], id)

-- Room that is short by the dust of a division is room.
local over_tokens = not known and rate > 0 and used + tokens > rate + 0.001
local over_calls = not known and width > 0 and running >= width
if not known and not over_tokens and not over_calls then
  if rate > 0 then
    used = used + tokens
    redis.call('HSET', KEYS[1], 'used', tostring(used), 'at', now)
    redis.call('PEXPIRE', KEYS[1], math.ceil(used / per_ms) + 600000)
  end
  if width > 0 then
    redis.call('ZADD', KEYS[2], now + lease, id)
    redis.call('PEXPIRE', KEYS[2], lease)
    running = running + 1
  end
end

local left, reset_ms, wait_ms = 0, 0, 0
if rate > 0 then
  left = math.max(0, math.floor(rate - used))
  reset_ms = math.ceil(used / per_ms)
  wait_ms = math.max(0, math.ceil((used + tokens - rate) / per_ms))
end
return {over_tokens and 1 or 0, over_calls and 1 or 0, running, left, reset_ms, wait_ms, math.ceil(call_ms)}
