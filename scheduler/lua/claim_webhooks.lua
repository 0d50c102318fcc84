-- A process takes webhooks that are due: each is its own until the lease runs out, then anybody's.
--
-- Receivers that answered lately come first, those that wait longest before others, each with as many as it may have at
-- once. One that is new or was not reached is asked by one attempt at a time, in few of the places: so those who name
-- many that keep silent take no place of those that answer.
-- Webhooks of a receiver that is not reached end here when they are too old, 100 in a step.
--
-- KEYS  1 webhooks (all others are made of the prefix, which carries its hash tag)
-- ARGV  1 prefix   2 how many   3 how many of unproven receivers   4 how many of one receiver   5 lease in ms
--       6 age in ms at which one of a receiver that is not reached is given up   7 for how many ms ended ones are kept
--       8... receiver, how many of it this process has, by turns
-- Reply {claimed, ms until the next one is due or -1, how many were given up}; claimed is a list of
--       {id, claim, receiver, url, secrets, payload, attempts, created, 1 of an unproven receiver else 0}

local prefix, room, unproven_room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local per_receiver, lease, kept = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[7]
local proven, unproven = prefix .. 'webhooks:receivers', prefix .. 'webhooks:unproven'
local held = {}
for place = 8, #ARGV, 2 do
  held[ARGV[place]] = tonumber(ARGV[place + 1])
end

local given_up = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[6]), 'LIMIT', 0, 100)) do
  local receiver = redis.call('HGET', prefix .. 'webhook:' .. id, 'receiver')
  if not receiver then
    redis.call('ZREM', KEYS[1], id)
  elseif redis.call('HEXISTS', prefix .. 'webhooks:failures', receiver) == 1 then
    end_webhook(prefix, id, receiver, 'given_up', kept)
    schedule_receiver(prefix, receiver, tonumber(redis.call('ZSCORE', unproven, receiver) or 0))
    given_up = given_up + 1
  end
end

local claimed = {}

local function claim_from(receiver, most, is_unproven)
  local waiting = prefix .. 'webhooks:to:' .. receiver
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, most)) do
    local key = prefix .. 'webhook:' .. id
    local found = redis.call('HMGET', key, 'url', 'secrets', 'payload', 'attempts', 'created')
    if found[1] then
      redis.call('ZADD', waiting, now + lease, id)
      local claim = redis.call('HINCRBY', key, 'claims', 1)
      local attempts, created = tonumber(found[4]), tonumber(found[5])
      table.insert(claimed, {id, claim, receiver, found[1], found[2], found[3], attempts, created, is_unproven})
    else
      redis.call('ZREM', waiting, id)
    end
  end
  -- Nobody else asks an unproven one until this attempt has ended.
  schedule_receiver(prefix, receiver, is_unproven == 1 and now + lease or 0)
end

-- As many receivers as could be passed over, and as could be needed.
local looked_at = room + (#ARGV - 7) / 2
for _, receiver in ipairs(redis.call('ZRANGEBYSCORE', proven, '-inf', now, 'LIMIT', 0, looked_at)) do
  local most = math.min(room - #claimed, per_receiver - (held[receiver] or 0))
  if most > 0 then
    claim_from(receiver, most, 0)
  end
end
for _, receiver in ipairs(redis.call('ZRANGEBYSCORE', unproven, '-inf', now, 'LIMIT', 0, looked_at)) do
  if unproven_room > 0 and #claimed < room and not held[receiver] then
    local before = #claimed
    claim_from(receiver, 1, 1)
    unproven_room = unproven_room - (#claimed - before)
  end
end

local wait = -1
for _, set in ipairs({proven, unproven}) do
  local later = redis.call('ZRANGEBYSCORE', set, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if later[2] and (wait < 0 or tonumber(later[2]) - now < wait) then
    wait = tonumber(later[2]) - now
  end
end
return {claimed, wait, given_up}
