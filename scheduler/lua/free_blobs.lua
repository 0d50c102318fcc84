-- Goes on letting blobs go, for those that keep_blobs found no room for at once.
--
-- KEYS  1 blobs   2 sizes   3 ends
-- ARGV  1 prefix of blobs   2 prefix of their users   3 prefix of requests   4 bytes that count for a blob beside its own
--       5 count and 6 bytes of those that have to be kept   7 budget in bytes   8 the moment of keep_blobs
-- Reply {state, bytes of all blobs}: `room`, `full` or `more`, as of keep_blobs; nothing is kept

local state = make_room(tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]))
return {state, tonumber(redis.call('HGET', SIZES, 'total') or 0)}
