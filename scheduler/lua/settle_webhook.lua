-- Writes down what became of an attempt to deliver a webhook: it has ended, or is tried again.
--
-- KEYS  1 webhooks (all others are made of the prefix, which carries its hash tag)
-- ARGV  1 prefix   2 id   3 receiver   4 claim   5 outcome, or '' to try again   6 ms until it is tried again
--       7 for how many ms the receiver is left alone after the first failure, or '' when it was reached   8 and at most
--       9 for how many ms an ended one is kept
-- Reply 1 when this attempt's outcome was taken; 0 when it came too late: its lease had run out and another has the
--       webhook, or it had ended. A delivery is taken from anyone.

local prefix, id, receiver = ARGV[1], ARGV[2], ARGV[3]
local key = prefix .. 'webhook:' .. id
local taken = 0

local not_before = 0
if ARGV[7] == '' then
  redis.call('HDEL', prefix .. 'webhooks:failures', receiver)
else
  local failures = redis.call('HINCRBY', prefix .. 'webhooks:failures', receiver, 1)
  not_before = now + math.min(tonumber(ARGV[7]) * 2 ^ math.min(failures - 1, 30), tonumber(ARGV[8]))
end

local ended = redis.call('HEXISTS', key, 'url') == 0
if not ended and (redis.call('HGET', key, 'claims') == ARGV[4] or ARGV[5] == 'delivered') then
  taken = 1
  if ARGV[5] == '' then
    redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('ZADD', prefix .. 'webhooks:to:' .. receiver, now + tonumber(ARGV[6]), id)
  else
    end_webhook(prefix, id, receiver, ARGV[5], ARGV[9])
  end
end
schedule_receiver(prefix, receiver, not_before)
return taken
