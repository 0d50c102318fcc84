-- Gives a part of a batch back before its lease runs out: another may have it at once.
--
-- KEYS  1 claims   2 holders
-- ARGV  1 part   2 token
-- Reply 1 given back; 0 it was another's

if not holds(KEYS[2], ARGV[1], ARGV[2]) then
  return 0
end
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('ZADD', KEYS[1], 'XX', 0, ARGV[1])
end
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
