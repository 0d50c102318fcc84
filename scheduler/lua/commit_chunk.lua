-- Writes down that a chunk is done, or all of it that will be, with what it counts; the last one sends its batch to its end.
--
-- KEYS  1 batch hash   2 claims   3 holders   4 chunks
-- ARGV  1 chunk number   2 token   3 lines completed   4 lines failed   5 tokens   6 Unix seconds
--       7 what is kept of it: the token, and the kinds of part files that there are
-- Reply 1 written; 0 another has it, or it was written before

if not holds(KEYS[3], ARGV[1], ARGV[2]) or redis.call('HSETNX', KEYS[4], ARGV[1], ARGV[7]) == 0 then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HINCRBY', KEYS[1], 'completed', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'failed', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'tokens', ARGV[5])
local found = redis.call('HMGET', KEYS[1], 'status', 'chunks')
if found[1] == 'in_progress' and redis.call('HLEN', KEYS[4]) == tonumber(found[2]) then
  redis.call('HSET', KEYS[1], 'status', 'finalizing', 'ending', 'completed', 'finalizing_at', ARGV[6])
end
return 1
