-- Ends a lease without results: the items that are still in their lanes go back to the end of them.
--
-- The one way back, for a lease that ran out, a worker that failed and a message that could not be sent. An item that a
-- worker had begun goes back with one attempt more; after the last attempt it is answered with an error instead, and
-- put among the dead letters. What nobody waits for any more leaves its lane for good.
--
-- KEYS  1 leases   2 batch hash   3 claims   4 counters   5 held   6 dead letters   7 8 9 lanes   10 queued
-- ARGV  1 batch id   2 reason   3 attempts allowed   4 TTL of results in ms   5 request prefix   6 result prefix
--       7 scheduler channel   8 '1': only if the lease has run out   9 dead letters kept
-- Reply {items that went back, items given up}, or nil when there was nothing to release

local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not expiry or (ARGV[8] == '1' and tonumber(expiry) > now) then
  return false
end

local batch = redis.call('HMGET', KEYS[2], 'worker', 'claimed', 'entries')
local worker, claimed, packed = batch[1], batch[2], batch[3]
local returned, given_up = 0, 0
for _, entry in ipairs(packed and cmsgpack.unpack(packed) or {}) do
  local lane_key, id = KEYS[7 + entry[1]], entry[2]
  redis.call('HDEL', KEYS[3], entry[1] .. '/' .. id)
  local fields = entry_fields(lane_key, id)
  if fields then
    local attempts, reasons = tonumber(fields[ATTEMPTS]), fields[REASONS]
    if claimed then
      attempts = attempts + 1
      reasons = reasons .. attempts .. ': worker ' .. worker .. ': ' .. ARGV[2] .. '\n'
    end
    if not waiting_channel(ARGV[5] .. fields[REQUEST]) then
      if claimed then
        redis.call('XDEL', lane_key, id)
        has_left(entry[1], fields[TENANT], tonumber(fields[TOKENS]))
        redis.call('HINCRBY', KEYS[4], 'items_unwanted', 1)
      else
        drop(entry[1], lane_key, id, fields, KEYS[4])
      end
    elseif attempts < tonumber(ARGV[3]) then
      redis.call('XDEL', lane_key, id)
      redis.call('XADD', lane_key, '*', 'request', fields[REQUEST], 'index', fields[INDEX], 'item', fields[ITEM],
        'attempts', attempts, 'reasons', reasons, 'deadline', fields[DEADLINE] or 0,
        unpack(fields, 13))
      returned = returned + 1
    else
      local failure = {500, 'item_given_up', 'The input was given up after ' .. attempts .. ' attempts. ' .. reasons}
      redis.call('XDEL', lane_key, id)
      has_left(entry[1], fields[TENANT], tonumber(fields[TOKENS]))
      settle(ARGV[5], ARGV[6], fields[REQUEST], fields[INDEX], 'e' .. cmsgpack.pack(failure))
      redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[9], '*', 'request', fields[REQUEST], 'index', fields[INDEX],
        'item', fields[ITEM], 'reasons', reasons)
      given_up = given_up + 1
    end
  end
end
count_out(KEYS[10])
redis.call('HINCRBY', KEYS[4], 'items_returned', returned)
if given_up > 0 then
  redis.call('HINCRBY', KEYS[4], 'items_given_up', given_up)
end
end_lease(KEYS[1], KEYS[2], KEYS[5], ARGV[1], ARGV[7])
wake_callers(ARGV[5], ARGV[6], ARGV[4])
return {returned, given_up}
