-- Records chunks of a backfill, those that are new; a second pass over the same input changes nothing. Chunk -1 is the end
-- and recorded last: after it there are no new ones.
--
-- KEYS  1 chunks   2 open   3 totals
-- ARGV  by threes: number, chunk (JSON), rows
-- Reply -2 all are recorded as they were given; else the first number that is recorded otherwise: the input has changed

for i = 1, #ARGV, 3 do
  local number, chunk, rows = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local known = redis.call('HGET', KEYS[1], number)
  if not known and redis.call('HEXISTS', KEYS[1], '-1') == 1 then
    return tonumber(number)
  elseif not known then
    redis.call('HSET', KEYS[1], number, chunk)
    redis.call('ZADD', KEYS[2], number, number)
    redis.call('HINCRBY', KEYS[3], 'planned', rows)
  elseif known ~= chunk then
    return tonumber(number)
  end
end
return -2
