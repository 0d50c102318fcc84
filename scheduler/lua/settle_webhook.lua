-- Writes down what became of an attempt to deliver a webhook: it has ended, or is tried again.
--
-- KEYS  1 webhooks (all others are made of the prefix, which carries its hash tag)
-- ARGV  1 prefix   2 id   3 receiver   4 claim   5 outcome, or '' to try again   6 ms until it is tried again
--       7 1 the receiver answered, 0 it was not reached, '' neither is known   8 for how many ms one that was not reached
--       is left alone the first time   9 and at most   10 for how many ms one that answered is known for it
--       11 for how many ms an ended webhook is kept
-- Reply 1 when this attempt's outcome was taken; 0 when it came too late: its lease had run out and another has the
--       webhook, or it had ended. A delivery is taken from anyone.

local prefix, id, receiver = ARGV[1], ARGV[2], ARGV[3]
local key = prefix .. 'webhook:' .. id
local taken = 0

local not_before = 0
local reached = prefix .. 'webhooks:reached'
if ARGV[7] == '1' then
  redis.call('HDEL', prefix .. 'webhooks:failures', receiver)
  redis.call('ZREMRANGEBYSCORE', reached, '-inf', now - tonumber(ARGV[10]))
  redis.call('ZADD', reached, now, receiver)
elseif ARGV[7] == '0' then
  redis.call('ZREM', reached, receiver)
  local failures = redis.call('HINCRBY', prefix .. 'webhooks:failures', receiver, 1)
  not_before = now + math.min(tonumber(ARGV[8]) * 2 ^ math.min(failures - 1, 30), tonumber(ARGV[9]))
end

local ended = redis.call('HEXISTS', key, 'url') == 0
if not ended and (redis.call('HGET', key, 'claims') == ARGV[4] or ARGV[5] == 'delivered') then
  taken = 1
  if ARGV[5] == '' then
    redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('ZADD', prefix .. 'webhooks:to:' .. receiver, now + tonumber(ARGV[6]), id)
  else
    end_webhook(prefix, id, receiver, ARGV[5], ARGV[11])
  end
end
schedule_receiver(prefix, receiver, not_before)
return taken
