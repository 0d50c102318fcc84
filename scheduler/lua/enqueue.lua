-- Accepts a request: its hash and all its items, or nothing.
--
-- KEYS  1 request hash   2 lane stream   3 queued   4 pace   5 line   6 promise
-- ARGV  1 request id   2 channel of the waiting api process   3 TTL of the request in ms   4 its deadline in Unix ms, 0 for
--       none   5 msgpack: the encoded items, in the order of their index, which starts at 0   6 msgpack: their tokens
--       7 lane number   8 tenant   9 most tokens queued in the lane, 0 for no bound at all   10 the same of the tenant
-- Reply 1 accepted; 0 the request is known already and nothing was changed
--       or {kind, tokens queued, ms}: nothing was changed, for too much waits already, in the lane (`lane`), of this tenant
--       (`tenant`), or to be done before the deadline (`deadline`); after so many ms there will be room, or -1 if the pace of
--       the workers is not known
--
-- Who is refused is promised room at a time, and the next one at a later time, at the pace at which room comes free. While
-- the queue is nearly full, only who was promised room gets it: a part of the last fifth is kept for them.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end

local lane, tenant = ARGV[7], ARGV[8]
local sizes, tokens = cmsgpack.unpack(ARGV[6]), 0
for _, size in ipairs(sizes) do
  tokens = tokens + size
end

local OPEN, PROMISED = 0.8, 0.95
local GRACE_MS = 30000
local EARLY_MS = 50
local LONGEST_MS = 600000

-- Why it is refused, by how many tokens there are too many, and at what pace in tokens a ms they become fewer.
local function too_much(share)
  local found = redis.call('HMGET', KEYS[3], lane, lane .. '/' .. tenant, lane .. '#')
  local in_lane, own, tenants = tonumber(found[1] or 0), tonumber(found[2] or 0), tonumber(found[3] or 0)
  if own == 0 then
    tenants = tenants + 1
  end
  local told = redis.call('GET', KEYS[4]) or '0 0'
  local pace, batch_ms = told:match('^(%d+) (%d+)$')
  pace, batch_ms = tonumber(pace) / 1000, tonumber(batch_ms)
  local kind, excess, easing = nil, 0, pace
  local function consider(name, more, at)
    if more > excess then
      kind, excess, easing = name, more, at
    end
  end
  -- One request is always let in, however large: what is larger than the bound never comes this far.
  if in_lane > 0 then
    consider('lane', in_lane + tokens - share * tonumber(ARGV[9]), pace)
  end
  if own > 0 then
    consider('tenant', own + tokens - share * tonumber(ARGV[10]), pace / tenants)
  end
  local above = 0
  for number = 0, tonumber(lane) - 1 do
    above = above + tonumber(redis.call('HGET', KEYS[3], number) or 0)
  end
  local deadline = tonumber(ARGV[4])
  -- Where nothing waits a request is let in, whatever the pace is taken for: so it is found out if it is taken wrongly.
  if deadline > 0 and pace > 0 and above + in_lane > 0 then
    -- Tenants take turns: before a tenant's last item the others get as much as it does, and no more.
    local before = above + math.min(in_lane + tokens, (own + tokens) * tenants)
    -- Nothing of a batch is there before all of it is.
    local left = math.max(0, deadline - now - batch_ms)
    consider('deadline', before - share * pace * left, pace / tenants)
  end
  return kind, excess, easing, in_lane
end

-- The earliest promise to a request like this one, for several may be alike; those that nobody came for are gone.
local function promised_at()
  while true do
    local due = tonumber(redis.call('LINDEX', KEYS[6], 0) or 0)
    if due == 0 or due + GRACE_MS > now then
      return due
    end
    redis.call('LPOP', KEYS[6])
  end
end

if tonumber(ARGV[9]) > 0 then
  local promised = promised_at()
  local due = promised > 0 and promised - EARLY_MS <= now
  if due then
    redis.call('LPOP', KEYS[6])
  end
  local kind, excess, easing, in_lane = too_much(due and PROMISED or OPEN)
  if kind then
    if easing <= 0 then
      return {kind, in_lane, -1}
    end
    local place = lane .. '/' .. tenant
    local free = math.max(now + math.ceil(excess / easing), tonumber(redis.call('HGET', KEYS[5], place) or 0))
    if free - now > LONGEST_MS then
      return {kind, in_lane, LONGEST_MS}
    end
    redis.call('HSET', KEYS[5], place, free + math.ceil(tokens / (easing * 0.9)))
    redis.call('PEXPIRE', KEYS[5], LONGEST_MS + GRACE_MS)
    redis.call('RPUSH', KEYS[6], free)
    redis.call('PEXPIRE', KEYS[6], free - now + GRACE_MS)
    return {kind, in_lane, free - now}
  end
end

local items = cmsgpack.unpack(ARGV[5])
local count = #items
redis.call('HSET', KEYS[1], 'count', count, 'remaining', count, 'channel', ARGV[2])
if ARGV[4] ~= '0' then
  redis.call('HSET', KEYS[1], 'deadline', ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for i, item in ipairs(items) do
  redis.call('XADD', KEYS[2], '*', 'request', ARGV[1], 'index', i - 1, 'item', item, 'attempts', 0, 'reasons', '',
    'deadline', ARGV[4], 'tenant', tenant, 'tokens', sizes[i])
end
count_in(KEYS[3], lane, tenant, tokens)
return 1
