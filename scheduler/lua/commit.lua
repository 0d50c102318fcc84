-- Writes a micro-batch's results, strikes its items out of their lanes, ends its lease and wakes the callers.
--
-- An item's entry leaves its lane here and only here (or where nobody waits for it, or it is given up). So an entry that is
-- gone was answered before, and a batch that runs a second time changes nothing and counts nothing.
--
-- KEYS  1 leases   2 batch hash   3 claims   4 counters   5 held   6 7 8 lanes
-- ARGV  1 batch id   2 TTL of results in ms   3 request prefix   4 result prefix   5 scheduler channel
--       6... lane number, entry id, request id, index, tokens, encoded result, by turns
-- Reply how many results this call wrote

local written, tokens, unwanted, repeated = 0, 0, 0, 0
for i = 6, #ARGV, 6 do
  local lane, id = ARGV[i], ARGV[i + 1]
  if redis.call('XDEL', KEYS[6 + tonumber(lane)], id) == 1 then
    redis.call('HDEL', KEYS[3], lane .. '/' .. id)
    if settle(ARGV[3], ARGV[4], ARGV[i + 2], ARGV[i + 3], ARGV[i + 5], ARGV[2]) then
      written = written + 1
      tokens = tokens + tonumber(ARGV[i + 4])
    else
      unwanted = unwanted + 1
    end
  else
    repeated = repeated + 1
  end
end
redis.call('HINCRBY', KEYS[4], 'items_answered', written)
redis.call('HINCRBY', KEYS[4], 'tokens_answered', tokens)
if unwanted > 0 then
  redis.call('HINCRBY', KEYS[4], 'items_unwanted', unwanted)
end
if repeated > 0 then
  redis.call('HINCRBY', KEYS[4], 'items_repeated', repeated)
end
end_lease(KEYS[1], KEYS[2], KEYS[5], ARGV[1], ARGV[5])
wake_callers()
return written
