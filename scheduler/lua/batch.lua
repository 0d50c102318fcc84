-- What the steps of batches share; `lua.py` puts it before each of them, so it is not a step itself.
--
-- A batch is worked on in parts: its stages (`validate`, `finish`), of which one process has one at a time, and its chunks,
-- numbers from 0, of which any number of processes have any number. Who claims a part gets a lease and a token. What is
-- written under a token that is not the last one changes nothing: its lease ran out and another has the part.

-- Whether a part is held under this token.
local function holds(holders, part, token)
  return redis.call('HGET', holders, part) == token
end

-- Gives a part to who asks, under a token.
local function take(claims, holders, part, token, lease)
  redis.call('ZADD', claims, now + lease, part)
  redis.call('HSET', holders, part, token)
end
