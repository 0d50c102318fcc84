-- What the steps share that end a job or a batch: the outbox of webhooks. `lua.py` puts it before the steps that ask for
-- it, so it is not a step itself.
--
-- A webhook is handed in by the very step whose end it tells of: so none is forgotten and none tells of what did not
-- happen. All keys begin with one prefix, which carries their hash tag.
--
-- PREFIX webhook:ID          hash: receiver, url, secrets (msgpack: list of strings, empty: the server's own), payload,
--                            created, attempts (that failed), claims, and once it has ended: outcome
-- PREFIX webhooks            sorted set: id -> Unix ms when it was handed in; those that have not ended
-- PREFIX webhooks:to:RECEIVER  sorted set: id -> Unix ms of its next attempt, or when the lease of one runs out
-- PREFIX webhooks:receivers  sorted set: receiver that was reached lately -> Unix ms of its next attempt
-- PREFIX webhooks:unproven   the same, of receivers that are new or were not reached at the last attempt
-- PREFIX webhooks:reached    sorted set: receiver that answered at the last attempt -> Unix ms when; of the last hour
-- PREFIX webhooks:failures   hash: receiver -> how often in a row it was not reached
-- PREFIX webhooks:new        channel: an id, when it is handed in
--
-- A receiver is scheme, host and port of a URL: a claim looks at receivers, however many webhooks wait for one of them.

-- Writes down when a receiver's first webhook is due, but not before a time; forgets a receiver without any.
local function schedule_receiver(prefix, receiver, not_before)
  local first = redis.call('ZRANGE', prefix .. 'webhooks:to:' .. receiver, 0, 0, 'WITHSCORES')
  local proven, unproven = prefix .. 'webhooks:receivers', prefix .. 'webhooks:unproven'
  if not first[1] then
    redis.call('ZREM', proven, receiver)
    redis.call('ZREM', unproven, receiver)
    redis.call('HDEL', prefix .. 'webhooks:failures', receiver)
    return
  end
  local due = math.max(tonumber(first[2]), not_before)
  if redis.call('ZSCORE', prefix .. 'webhooks:reached', receiver) then
    redis.call('ZREM', unproven, receiver)
    redis.call('ZADD', proven, due, receiver)
  else
    redis.call('ZREM', proven, receiver)
    redis.call('ZADD', unproven, due, receiver)
  end
end

-- Ends a webhook; what it was is kept for a while, so that it is not delivered anew when it is handed in again.
local function end_webhook(prefix, id, receiver, outcome, kept_ms)
  local key = prefix .. 'webhook:' .. id
  redis.call('ZREM', prefix .. 'webhooks', id)
  redis.call('ZREM', prefix .. 'webhooks:to:' .. receiver, id)
  redis.call('HDEL', key, 'url', 'secrets', 'payload')
  redis.call('HSET', key, 'outcome', outcome)
  redis.call('PEXPIRE', key, kept_ms)
end

-- Hands a webhook in. `packed` is msgpack [id, url, secrets, payload], or '' for none; one handed in before stays as it is.
local function post_webhook(prefix, packed)
  if packed == '' then
    return
  end
  local webhook = cmsgpack.unpack(packed)
  local id, url = webhook[1], webhook[2]
  local key = prefix .. 'webhook:' .. id
  if redis.call('EXISTS', key) == 1 then
    return
  end
  local receiver = string.match(url, '^%a+://[^/?]+') or url
  redis.call('HSET', key, 'receiver', receiver, 'url', url, 'secrets', cmsgpack.pack(webhook[3]), 'payload', webhook[4],
    'created', now, 'attempts', 0)
  redis.call('ZADD', prefix .. 'webhooks', now, id)
  redis.call('ZADD', prefix .. 'webhooks:to:' .. receiver, now, id)
  -- One that is left alone for a while keeps its time.
  if redis.call('HEXISTS', prefix .. 'webhooks:failures', receiver) == 0 then
    schedule_receiver(prefix, receiver, 0)
  end
  redis.call('PUBLISH', prefix .. 'webhooks:new', id)
end
