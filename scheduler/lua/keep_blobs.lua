-- Keeps blobs that a request needs, all or none, and lets go of others where there is no room.
--
-- KEYS  1 blobs   2 sizes   3 ends
-- ARGV  1 prefix of blobs   2 prefix of their users   3 prefix of requests   4 bytes that count for a blob beside its own
--       5 request id   6 ms for which it counts though its hash is not there   7 TTL in ms   8 budget in bytes
--       9... the blobs' names and bytes by turns
-- Reply {state, bytes of all blobs, count and bytes of those that have to be kept, moment}
--       `room`: they are kept; `full`: none is, for what is kept is in use; `more`: none is yet, and free_blobs goes on

-- A Redis that is full refuses a step's first write only: it is one that changes nothing.
redis.call('HINCRBY', SIZES, 'total', 0)

local finish = now + ARGV[7]
local count, bytes = 0, 0
for place = 9, #ARGV, 2 do
  local name, data = ARGV[place], ARGV[place + 1]
  if redis.call('EXISTS', BLOB .. name) == 1 then
    use(name, ARGV[5], ARGV[6], finish)
  else
    if redis.call('HEXISTS', SIZES, name) == 1 then
      forget(name)
    end
    count = count + 1
    bytes = bytes + #data
  end
end

local state = count == 0 and 'room' or make_room(count, bytes, tonumber(ARGV[8]), moment)
if state == 'room' then
  for place = 9, #ARGV, 2 do
    local name, data = ARGV[place], ARGV[place + 1]
    if redis.call('EXISTS', BLOB .. name) == 0 then
      redis.call('SET', BLOB .. name, data)
      redis.call('HSET', SIZES, name, #data)
      redis.call('HINCRBY', SIZES, 'total', #data)
      use(name, ARGV[5], ARGV[6], finish)
    end
  end
end
return {state, tonumber(redis.call('HGET', SIZES, 'total')), count, bytes, moment}
