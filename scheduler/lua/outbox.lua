-- What the steps share that end a job or a batch: the outbox of webhooks. `lua.py` puts it before the steps that ask for
-- it, so it is not a step itself.
--
-- A webhook is handed in by the very step whose end it tells of: so none is forgotten and none tells of what did not
-- happen. All keys begin with one prefix, which carries their hash tag.
--
-- PREFIX webhook:ID   hash: url, secrets (msgpack: list of strings, empty: the server's own), payload, created, attempts
-- PREFIX webhooks     sorted set: id -> Unix ms of its next attempt
-- PREFIX webhooks:new channel: an id, when it is handed in

-- Hands a webhook in. `packed` is msgpack [id, url, secrets, payload], or '' for none; one handed in before stays as it is.
local function post_webhook(prefix, packed)
  if packed == '' then
    return
  end
  local webhook = cmsgpack.unpack(packed)
  local key = prefix .. 'webhook:' .. webhook[1]
  if redis.call('EXISTS', key) == 1 then
    return
  end
  redis.call('HSET', key, 'url', webhook[2], 'secrets', cmsgpack.pack(webhook[3]), 'payload', webhook[4],
    'created', now, 'attempts', 0)
  redis.call('ZADD', prefix .. 'webhooks', now, webhook[1])
  redis.call('PUBLISH', prefix .. 'webhooks:new', webhook[1])
end
