-- Takes or keeps the leadership of a model.
--
-- KEYS  1 leader string   2 leader counter
-- ARGV  1 fencing token held, or ''   2 TTL in ms
-- Reply the fencing token when this caller leads, else 0

local holder = redis.call('GET', KEYS[1])
if holder then
  if holder ~= ARGV[1] then
    return 0
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(holder)
end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
