-- Strikes items out of their lanes that nobody waits for any more, without the detour of a lease.
--
-- KEYS  1 claims   2 counters   3 4 5 lanes   6 queued
-- ARGV  1 request prefix   2... lane number, entry id, by turns
-- Reply one number per entry: 1 it waits in its lane no more (dropped here or before, or a batch holds it); 0 it does, for
--       its deadline has not passed by this server's clock

local states = {}
for i = 2, #ARGV, 2 do
  local lane, id = ARGV[i], ARGV[i + 1]
  local lane_key = KEYS[3 + tonumber(lane)]
  local fields = entry_fields(lane_key, id)
  local gone = 1
  if fields and redis.call('HEXISTS', KEYS[1], lane .. '/' .. id) == 0 then
    if waiting_channel(ARGV[1] .. fields[REQUEST]) then
      gone = 0
    else
      drop(tonumber(lane), lane_key, id, fields, KEYS[2])
    end
  end
  table.insert(states, gone)
end
count_out(KEYS[6])
return states
