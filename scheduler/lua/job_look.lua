-- What is known of a job of this owner.
--
-- KEYS  1 prefix
-- ARGV  1 id   2 owner   3 whether its reply is wanted, 1 or 0
-- Reply 'none'; 'gone', the time of its result is over; or {path, lane, status, created, started, finished, expires, kept,
--       attempts, code, place among the owner's, 0 unless it waits, webhook, reply's headers, reply}

local id, owner = ARGV[1], ARGV[2]
local found = redis.call('HMGET', JOB .. id, 'path', 'lane', 'status', 'created', 'started', 'finished', 'expires', 'kept',
  'attempts', 'code', 'owner', 'webhook', 'reply_headers')
if not found[1] then
  return redis.call('GET', ENDED .. id) == owner and 'gone' or 'none'
end
if found[11] ~= owner then
  return 'none'
end
local rank = redis.call('ZRANK', WAITING .. owner, id)
found[11] = rank and rank + 1 or 0
found[14] = ARGV[3] == '1' and redis.call('HGET', JOB .. id, 'reply')
return found
