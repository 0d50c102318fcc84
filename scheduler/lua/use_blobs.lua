-- Notes that a request needs blobs, and tells which of them are not there.
--
-- KEYS  1 blobs
-- ARGV  1 request id   2 ms for which it counts though its hash is not there yet   3 TTL in ms   4 prefix of blobs
--       5 prefix of their users   6 prefix of requests   7... the blobs' names
-- Reply the names of those that are not there

-- Of a blob that is used all the time, users that are gone are forgotten when there are so many.
local MANY = 100

local missing = {}
for place = 7, #ARGV do
  local name = ARGV[place]
  local blob, users = ARGV[4] .. name, ARGV[5] .. name
  local left = redis.call('PTTL', blob)
  if left < 0 then
    table.insert(missing, name)
  else
    redis.call('ZADD', KEYS[1], now, name)
    redis.call('ZADD', users, now + ARGV[2], ARGV[1])
    if left < tonumber(ARGV[3]) then
      redis.call('PEXPIRE', blob, ARGV[3])
      redis.call('PEXPIRE', users, ARGV[3])
    end
    if redis.call('ZCARD', users) > MANY then
      for _, user in ipairs(redis.call('ZRANGEBYSCORE', users, '-inf', now, 'LIMIT', 0, MANY)) do
        if redis.call('EXISTS', ARGV[6] .. user) == 0 then
          redis.call('ZREM', users, user)
        end
      end
    end
  end
end
return missing
