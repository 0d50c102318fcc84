-- Writes a micro-batch's results, strikes its items out of their lanes, ends its lease and wakes the callers.
--
-- An item's entry leaves its lane here and only here (or where nobody waits for it, or it is given up). So an entry that is
-- gone was answered before, and a batch that runs a second time changes nothing and counts nothing.
--
-- KEYS  1 leases   2 batch hash   3 claims   4 counters   5 held   6 7 8 lanes   9 queued
-- ARGV  1 batch id   2 TTL of results in ms   3 request prefix   4 result prefix   5 scheduler channel
--       6 the answers, msgpack: [lane number, entry id, request id, index, tokens, encoded result, tenant] each
--       7 what the batch took, for the leader: tokens, sum of squared lengths, seconds; '' when it is not known
-- Reply how many results this call wrote

local written, tokens, unwanted, repeated = 0, 0, 0, 0
local claims = {}
for _, answer in ipairs(cmsgpack.unpack(ARGV[6])) do
  local lane, id = answer[1], answer[2]
  if redis.call('XDEL', KEYS[6 + lane], id) == 1 then
    table.insert(claims, lane .. '/' .. id)
    has_left(lane, answer[7], answer[5])
    if settle(ARGV[3], ARGV[4], answer[3], answer[4], answer[6]) then
      written = written + 1
      tokens = tokens + answer[5]
    else
      unwanted = unwanted + 1
    end
  else
    repeated = repeated + 1
  end
end
in_parts('HDEL', KEYS[3], claims)
count_out(KEYS[9])
redis.call('HINCRBY', KEYS[4], 'items_answered', written)
redis.call('HINCRBY', KEYS[4], 'tokens_answered', tokens)
if unwanted > 0 then
  redis.call('HINCRBY', KEYS[4], 'items_unwanted', unwanted)
end
if repeated > 0 then
  redis.call('HINCRBY', KEYS[4], 'items_repeated', repeated)
end
end_lease(KEYS[1], KEYS[2], KEYS[5], ARGV[1], ARGV[5], ARGV[7])
wake_callers(ARGV[3], ARGV[4], ARGV[2])
return written
