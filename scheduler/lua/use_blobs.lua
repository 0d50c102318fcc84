-- Notes that a request needs blobs, as far as they are there.
--
-- KEYS  1 blobs   2 sizes   3 ends
-- ARGV  1 prefix of blobs   2 prefix of their users   3 prefix of requests   4 bytes that count for a blob beside its own
--       5 request id   6 ms for which it counts though its hash is not there   7 TTL in ms   8... the blobs' names
-- Reply the names of those that are not there

local missing = {}
for place = 8, #ARGV do
  local name = ARGV[place]
  if redis.call('EXISTS', BLOB .. name) == 1 then
    use(name, ARGV[5], ARGV[6], now + ARGV[7])
  else
    table.insert(missing, name)
  end
end
return missing
