-- Ends the validation of a batch whose input is in order: it is in progress, unless it was cancelled meanwhile.
--
-- KEYS  1 batch hash   2 claims   3 holders
-- ARGV  1 token   2 Unix seconds   3 number of chunks   4 number of lines   5 model
-- Reply 1 written; 0 it is another's, or was written before

if not holds(KEYS[3], 'validate', ARGV[1]) then
  return 0
end
redis.call('ZREM', KEYS[2], 'validate')
redis.call('HDEL', KEYS[3], 'validate')
redis.call('HSET', KEYS[1], 'chunks', ARGV[3], 'total', ARGV[4], 'model', ARGV[5])
if redis.call('HGET', KEYS[1], 'status') == 'validating' then
  redis.call('HSET', KEYS[1], 'status', 'in_progress', 'in_progress_at', ARGV[2])
end
return 1
