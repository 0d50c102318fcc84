-- Ends a batch, with the files that came of it and the webhook that tells of it, in one step.
--
-- KEYS  1 batch hash   2 claims   3 holders   4 chunks   5 open batches   6 files of the owner   7 expiring files
-- ARGV  1 batch id   2 part (`validate` or `finish`)   3 token   4 prefix   5 webhook, packed, or ''   6 ms for which it is kept
--       7 status   8 number n of fields   9... n fields and values of the batch, by turns; then for each file: id, Unix
--       microseconds, expiry in Unix seconds, n, n fields and values of the file
-- Reply 1 ended; 0 another has it, or it had ended

if not holds(KEYS[3], ARGV[2], ARGV[3]) then
  return 0
end
local at = 9 + 2 * tonumber(ARGV[8])
redis.call('HSET', KEYS[1], 'status', ARGV[7], unpack(ARGV, 9, at - 1))
while at <= #ARGV do
  local id, made, expires, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  redis.call('HSET', ARGV[4] .. 'file:' .. id, unpack(ARGV, at + 4, at + 3 + 2 * count))
  redis.call('ZADD', KEYS[6], made, id)
  if expires ~= '0' then
    redis.call('ZADD', KEYS[7], expires, id)
  end
  at = at + 4 + 2 * count
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
post_webhook(ARGV[4], ARGV[5])
return 1
