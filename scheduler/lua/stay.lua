-- Renews the lease of a tenant's call that still runs. One that has ended or was given up does not come back.
--
-- KEYS  1 calls sorted set
-- ARGV  1 call id   2 lease of a call in ms
-- Reply 1 renewed, else 0

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
