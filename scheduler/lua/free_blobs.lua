-- Goes on letting blobs go, for those that keep_blobs found no room for at once.
--
-- KEYS  1 blobs   2 sizes   3 ends
-- ARGV  1 prefix of blobs   2 prefix of their users   3 prefix of requests
--       4 count and 5 bytes of those that have to be kept   6 budget in bytes   7 the moment of keep_blobs
-- Reply {state, bytes of all blobs}: `room`, `full` or `more`, as of keep_blobs; nothing is kept

local state = make_room(tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
return {state, tonumber(redis.call('HGET', SIZES, 'total') or 0)}
