-- Ends a tenant's call, and learns from it how long its calls take.
--
-- KEYS  1 usage hash   2 calls sorted set
-- ARGV  1 call id   2 how long it ran in ms
-- Reply 1 ended, 0 it had ended before

if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
local before, took = redis.call('HGET', KEYS[1], 'call_ms'), tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'call_ms', before and tostring(tonumber(before) * 0.8 + took * 0.2) or took)
if redis.call('PTTL', KEYS[1]) < 600000 then
  redis.call('PEXPIRE', KEYS[1], 600000)
end
return 1
