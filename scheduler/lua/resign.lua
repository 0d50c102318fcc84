-- A leader that stops in good order lets the next one start at once.
--
-- KEYS  1 leader string
-- ARGV  1 fencing token
-- Reply 1 resigned; 0 another leads already

if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
