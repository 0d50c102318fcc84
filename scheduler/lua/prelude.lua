-- What several steps share. `lua.py` puts it before each of them, so it is not a step itself.
--
-- Lane entries are streams' entries with the fields request, index, item, attempts, reasons, deadline, tenant, tokens, in
-- this order. The last three are missing from those that an earlier version wrote.
-- Request and result keys are made here from a prefix and the request's id; they carry the model's hash tag like every
-- key in KEYS, so on a cluster they lie on the same shard.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local REQUEST, INDEX, ITEM, ATTEMPTS, REASONS, DEADLINE, TENANT, TOKENS = 2, 4, 6, 8, 10, 12, 14, 16

-- The fields of a lane's entry, or nil when it has left the lane.
local function entry_fields(lane, id)
  local found = redis.call('XRANGE', lane, id, id)
  return found[1] and found[1][2]
end

local waited_for = {}

-- The channel of the api process that waits for a request; nil when its caller has left or its deadline has passed. A
-- request with many items in a step is looked at once.
local function waiting_channel(request_key)
  local channel = waited_for[request_key]
  if channel == nil then
    local found = redis.call('HMGET', request_key, 'channel', 'deadline')
    channel = found[1]
    if found[2] and tonumber(found[2]) <= now then
      channel = false
    end
    waited_for[request_key] = channel
  end
  return channel or nil
end

-- Calls a command with many arguments after its key, some at a time: Lua hands on no more than a few thousand.
local function in_parts(command, key, arguments)
  for begin = 1, #arguments, 1000 do
    redis.call(command, key, unpack(arguments, begin, math.min(begin + 999, #arguments)))
  end
end

-- What is queued, in tokens: a hash of `LANE` and `LANE/TENANT`, and of `LANE#`, how many tenants have something in it.
-- Fields are gone when nothing is.
local function count_in(queued, lane, tenant, tokens)
  redis.call('HINCRBY', queued, lane, tokens)
  if redis.call('HINCRBY', queued, lane .. '/' .. tenant, tokens) == tokens then
    redis.call('HINCRBY', queued, lane .. '#', 1)
  end
end

local function lower(queued, field, by)
  local left = redis.call('HINCRBY', queued, field, -by)
  if left <= 0 then
    redis.call('HDEL', queued, field)
  end
  return left
end

local left_lanes = {}

-- Notes that an item has left its lane for good. `count_out` must follow.
local function has_left(lane, tenant, tokens)
  if tokens then
    local tenants = left_lanes[lane] or {}
    tenants[tenant] = (tenants[tenant] or 0) + tokens
    left_lanes[lane] = tenants
  end
end

-- Counts out what has left the lanes in this step.
local function count_out(queued)
  for lane, tenants in pairs(left_lanes) do
    for tenant, tokens in pairs(tenants) do
      lower(queued, lane, tokens)
      if lower(queued, lane .. '/' .. tenant, tokens) <= 0 then
        lower(queued, lane .. '#', 1)
      end
    end
  end
end

-- Strikes an item that nobody waits for out of its lane, and counts why. A caller takes its request back at the deadline,
-- so once the request is gone only the entry still knows that it had one. `count_out` must follow.
local function drop(lane, lane_key, id, fields, counters)
  local deadline = tonumber(fields[DEADLINE] or 0)
  local expired = deadline > 0 and deadline <= now
  redis.call('XDEL', lane_key, id)
  has_left(lane, fields[TENANT], tonumber(fields[TOKENS]))
  redis.call('HINCRBY', counters, expired and 'items_expired' or 'items_abandoned', 1)
end

local settled = {}

-- Writes an item's result, once. True when it was this call that wrote it; false when nobody waits for it or the
-- result was there already. `wake_callers` must follow, which counts what was written.
local function settle(request_prefix, result_prefix, request, index, value)
  if not waiting_channel(request_prefix .. request) then
    return false
  end
  if redis.call('HSETNX', result_prefix .. request, index, value) == 0 then
    return false
  end
  settled[request] = (settled[request] or 0) + 1
  return true
end

-- Ends a micro-batch's lease and frees its worker's slot, unless it had ended before. The leader hears of it: the worker,
-- the batch and, where it is known, what it took.
local function end_lease(leases, batch_key, held, batch, channel, measured)
  if redis.call('ZREM', leases, batch) == 0 then
    return
  end
  local worker = redis.call('HGET', batch_key, 'worker')
  redis.call('DEL', batch_key)
  if redis.call('HINCRBY', held, worker, -1) <= 0 then
    redis.call('HDEL', held, worker)
  end
  redis.call('PUBLISH', channel, 'slot ' .. worker .. ' ' .. batch .. ' ' .. (measured or ''))
end

-- The most results that travel with the news of them: most requests have one item, and are spared a round trip.
local INLINE = 4

-- Counts the results that this step has written against what their requests wait for, and tells each api process, in one
-- message, which of its requests are complete: {request, its results as index and value by turns}. The results of many
-- items are left for the process to fetch: a subscriber's buffer has its limits.
local function wake_callers(request_prefix, result_prefix, ttl)
  local news = {}
  for request, count in pairs(settled) do
    local request_key, result_key = request_prefix .. request, result_prefix .. request
    redis.call('PEXPIRE', result_key, ttl)
    if redis.call('HINCRBY', request_key, 'remaining', -count) == 0 then
      local few = redis.call('HLEN', result_key) <= INLINE
      local channel = waiting_channel(request_key)
      news[channel] = news[channel] or {}
      table.insert(news[channel], {request, few and redis.call('HGETALL', result_key) or {}})
    end
  end
  for channel, requests in pairs(news) do
    redis.call('PUBLISH', channel, cmsgpack.pack(requests))
  end
end
