-- Finds the job that an idempotency key has made.
--
-- KEYS  1 prefix
-- ARGV  1 digest of the idempotency key   2 fingerprint of the call
-- Reply {state, id}: `same`, `other` as of job_submit; `none`, there is no such job (any more)

local known = redis.call('HMGET', BY_KEY .. ARGV[1], 'id', 'fingerprint')
if not known[1] or redis.call('EXISTS', JOB .. known[1]) == 0 then
  return {'none', ''}
end
return {known[2] == ARGV[2] and 'same' or 'other', known[1]}
