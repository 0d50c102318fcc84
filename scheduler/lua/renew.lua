-- A running worker keeps its lease.
--
-- KEYS  1 leases   2 batch hash
-- ARGV  1 batch id   2 worker id   3 lease in ms
-- Reply 1 kept; 0 the lease ran out before and the batch is not this worker's any more

if redis.call('HGET', KEYS[2], 'worker') ~= ARGV[2] then
  return 0
end
return redis.call('ZADD', KEYS[1], 'XX', 'CH', now + tonumber(ARGV[3]), ARGV[1])
