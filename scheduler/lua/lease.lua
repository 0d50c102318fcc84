-- Makes a micro-batch for one worker out of lane entries and puts it under a lease, if the caller leads and the worker has
-- a free slot; and sends it, where the broker is this very Redis. So there is no lease without its message.
--
-- KEYS  1 leader string   2 leases   3 claims   4 batch hash   5 counters   6 held   7 8 9 lanes
--       10 queued   11 the worker's Celery queue, left out where the broker is another Redis
-- ARGV  1 fencing token   2 batch id   3 worker id   4 slots of the worker   5 ms in which it must claim the batch
--       6 request prefix   7 Celery message, '' without key 11   8 the entries, msgpack: [lane number, entry id] each
-- Reply 'fenced'   the caller leads no more
--       'full'     the worker has no free slot
--       else one number per entry: 1 leased, 0 not (it has left the lane, another batch holds it, or nobody waits
--                  for it: its caller left or its deadline passed)

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if tonumber(redis.call('HGET', KEYS[6], ARGV[3]) or 0) >= tonumber(ARGV[4]) then
  return 'full'
end

local states, entries, claims = {}, {}, {}
for _, entry in ipairs(cmsgpack.unpack(ARGV[8])) do
  local lane, id = entry[1], entry[2]
  local lane_key, claim = KEYS[7 + lane], lane .. '/' .. id
  local fields = entry_fields(lane_key, id)
  local leased = 0
  if fields and redis.call('HEXISTS', KEYS[3], claim) == 0 then
    if waiting_channel(ARGV[6] .. fields[REQUEST]) then
      leased = 1
      table.insert(claims, claim)
      table.insert(claims, ARGV[2])
      table.insert(entries, entry)
    else
      drop(lane, lane_key, id, fields, KEYS[5])
    end
  end
  table.insert(states, leased)
end
in_parts('HSET', KEYS[3], claims)
count_out(KEYS[10])
if #entries > 0 then
  redis.call('HSET', KEYS[4], 'entries', cmsgpack.pack(entries), 'worker', ARGV[3])
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[5]), ARGV[2])
  redis.call('HINCRBY', KEYS[6], ARGV[3], 1)
  if KEYS[11] then
    redis.call('LPUSH', KEYS[11], ARGV[7])
  end
end
return states
