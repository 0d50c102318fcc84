-- A stretch of an owner's jobs, in the order in which they were accepted.
--
-- KEYS  1 prefix
-- ARGV  1 owner   2 id behind which it begins, '' for the end that comes first   3 newest first, 1 or 0   4 how many are
--       looked at   5 the status that is wanted, '' for any
-- Reply 'none', there is no job to begin behind; or {the last id looked at, '' when there are no more, {for each that is
--       wanted {id, path, lane, status, created, started, finished, expires, kept, attempts, code, place}}}

local owner, newest = ARGV[1], ARGV[3] == '1'
local from = newest and '+inf' or '-inf'
if ARGV[2] ~= '' then
  local number = redis.call('ZSCORE', INDEX .. owner, ARGV[2])
  if not number then
    return 'none'
  end
  from = '(' .. number
end
local ids = redis.call(newest and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE', INDEX .. owner, from, newest and '-inf' or '+inf',
  'LIMIT', 0, ARGV[4])
local jobs = {}
for _, id in ipairs(ids) do
  local found = redis.call('HMGET', JOB .. id, 'path', 'lane', 'status', 'created', 'started', 'finished', 'expires', 'kept',
    'attempts', 'code')
  if found[1] and (ARGV[5] == '' or ARGV[5] == found[3]) then
    local rank = redis.call('ZRANK', WAITING .. owner, id)
    table.insert(found, 1, id)
    found[12] = rank and rank + 1 or 0
    table.insert(jobs, found)
  end
end
return {#ids == tonumber(ARGV[4]) and ids[#ids] or '', jobs}
