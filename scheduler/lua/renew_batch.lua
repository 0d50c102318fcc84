-- Renews the leases of parts of batches.
--
-- KEYS  1 open batches (all others are made of the prefix, which carries its hash tag)
-- ARGV  1 prefix   2 lease in ms   3... batch id, part, token, by turns
-- Reply one word a part: 'lost' it is another's; 'stop' the batch goes to its end: write down what is done; 'on'

local replies = {}
for i = 3, #ARGV, 3 do
  local key = ARGV[1] .. 'batch:' .. ARGV[i]
  local claims, holders, part = key .. ':claims', key .. ':holders', ARGV[i + 1]
  local reply = 'lost'
  if holds(holders, part, ARGV[i + 2]) and redis.call('ZSCORE', claims, part) then
    redis.call('ZADD', claims, now + tonumber(ARGV[2]), part)
    local status = redis.call('HGET', key, 'status')
    reply = (part ~= 'finish' and (status == 'cancelling' or status == 'finalizing')) and 'stop' or 'on'
  end
  table.insert(replies, reply)
end
return replies
