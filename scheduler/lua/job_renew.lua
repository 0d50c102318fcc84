-- Renews the leases of jobs that run.
--
-- KEYS  1 prefix
-- ARGV  1 lease in ms   2... id and token of its claim, by turns
-- Reply for each 1, or 0: it has ended, or another runs it

local kept = {}
for i = 2, #ARGV, 2 do
  local mine = redis.call('HGET', JOB .. ARGV[i], 'runner') == ARGV[i + 1]
  if mine then
    redis.call('ZADD', RUNNING, now + tonumber(ARGV[1]), ARGV[i])
  end
  table.insert(kept, mine and 1 or 0)
end
return kept
