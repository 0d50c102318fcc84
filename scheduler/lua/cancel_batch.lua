-- Cancels a batch that has not ended: what is done of it stays, the rest is left. Anew, or at its end, it changes nothing.
--
-- KEYS  1 batch hash
-- ARGV  1 owner   2 Unix seconds
-- Reply 1; 0 there is none, or it is another's

if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 0
end
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'validating' or status == 'in_progress' then
  redis.call('HSET', KEYS[1], 'status', 'cancelling', 'ending', 'cancelled', 'cancelling_at', ARGV[2])
end
return 1
