-- Makes a batch, once; handed in again with the same idempotency key, it is the one that there is.
--
-- KEYS  1 batch hash   2 batches of the owner   3 open batches of the owner   4 owners   5 file hash of the input   6 its readers
--       7 what an idempotency key was used for
-- ARGV  1 batch id   2 owner   3 owner as the keys have it   4 Unix microseconds   5 fingerprint of what is asked for, '' without
--       an idempotency key   6 ms for which that is known   7... fields and values of the hash, by turns
-- Reply {word, batch id}: `new`; `same`, this idempotency key has made it already; `other`, it was used for another;
--       `none`, the input is not there, is not the owner's, or its time is over

if redis.call('EXISTS', KEYS[1]) == 1 then
  return {'new', ARGV[1]}
end
if ARGV[5] ~= '' then
  local known = redis.call('HMGET', KEYS[7], 'id', 'fingerprint')
  if known[1] then
    return {known[2] == ARGV[5] and 'same' or 'other', known[1]}
  end
end
local file = redis.call('HMGET', KEYS[5], 'owner', 'expires')
if file[1] ~= ARGV[2] or (file[2] ~= '0' and tonumber(file[2]) * 1000 <= now) then
  return {'none', ''}
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'status', 'validating', unpack(ARGV, 7))
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
-- An owner that waits already keeps its turn, or who hands in often would never have one.
redis.call('ZADD', KEYS[4], 'NX', ARGV[4], ARGV[3])
redis.call('SADD', KEYS[6], ARGV[1])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[7], 'id', ARGV[1], 'fingerprint', ARGV[5])
  redis.call('PEXPIRE', KEYS[7], ARGV[6])
end
return {'new', ARGV[1]}
