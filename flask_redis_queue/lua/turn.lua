-- One turn of a consumer: settle what is finished, renew its lease, take what comes next.
-- KEYS  1 q  2 wake  3 back  4 delayed  5 leases  6 ledger  7 held  8 dead  9 dead index  10 paused
-- ARGV  1 consumer  2 seq  3 lease ms  4 n: most messages to take (0: only settle)
--       5 alone_ok: 1 if the consumer holds nothing once this is settled  6 max bytes of a message
--       7 dead letter cap (0: none)  8 JSON line for a message that is too large
--       then counted lists: tags to ack · tags that expired · tag, delay ms (retry) · tag, JSON line
--       (dead) · tags to hand back, oldest first. A count is the number of arguments behind it.
-- Returns {status, now, settled, held, waiting, next due ms (-1: none), paused reason ('': no),
--       how many were too large and became dead letters `seq-1L`, `seq-2L`…, message…}
--       status: 'ok' · 'gone' (no such consumer: buried, or the server forgot it) · 'stale' (an older
--       request than the last) · 'behind' (the server lost a turn). All but 'ok' changed nothing.
--       The tag of the i-th message is `seq-i`. A repeat of the last seq gets its messages again.
local q, wake, back, delayed, leases, ledger, held = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local dead, dead_index = KEYS[8], KEYS[9]
local consumer, seq, lease_ms, n = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local last = redis.call('HGET', held, '#')
if not last then return {'gone', now} end
last = tonumber(last)
if seq < last then return {'stale', now} end
if seq > last + 1 then return {'behind', now} end

local function finish(settled, large, messages)
  local due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  local waiting = redis.call('LLEN', q) + redis.call('LLEN', wake) + redis.call('LLEN', back)
  local reply = {'ok', now, settled, redis.call('HLEN', held) - 1, waiting,
    due and math.max(0, math.ceil(tonumber(due) - now)) or -1, redis.call('GET', KEYS[10]) or '', large}
  for i = 1, #messages do reply[#reply + 1] = messages[i] end
  return reply
end

if seq == last then
  local messages, i = {}, 1
  while true do
    local stored = redis.call('HGET', held, seq .. '-' .. i)
    if not stored then break end
    messages[i] = stored
    i = i + 1
  end
  return finish(0, 0, messages)
end

-- The very first write is one that a full server never refuses; the next ones pass then.
redis.call('HDEL', held, '-')
redis.call('HSET', held, '#', seq)
renew(leases, consumer, now, lease_ms)
local listed = fold_foreign(q, wake, ledger)

-- settle -------------------------------------------------------------------------------------------
local at, settled = 9, 0
local function read_list()
  local first, size = at + 1, tonumber(ARGV[at])
  at = first + size
  return first, size
end
local function drop(field)
  local first, size = read_list()
  if size == 0 then return end
  count(ledger, field, size)
  local gone = 0
  for i = first, first + size - 1, 500 do
    gone = gone + redis.call('HDEL', held, unpack(ARGV, i, math.min(i + 499, first + size - 1)))
  end
  count(ledger, field, gone - size)
  settled = settled + gone
end
drop('handled')
drop('expired')
local first, size = read_list()
local died = 0
for i = first, first + size - 1, 2 do
  local stored = redis.call('HGET', held, ARGV[i])
  if stored then
    local birth, attempts, deaths, since, body = unpack_stored(stored)
    count(ledger, 'retried', 1)
    redis.call('ZADD', delayed, whole(now + tonumber(ARGV[i + 1])), pack_stored(birth, attempts + 1, deaths, since, body))
    redis.call('HDEL', held, ARGV[i])
    settled = settled + 1
  end
end
first, size = read_list()
for i = first, first + size - 1, 2 do
  local stored = redis.call('HGET', held, ARGV[i])
  if stored then
    count(ledger, 'died', 1)
    put_dead(dead, dead_index, consumer .. ':' .. ARGV[i], now, stored, ARGV[i + 1])
    redis.call('HDEL', held, ARGV[i])
    died = died + 1
    settled = settled + 1
  end
end
first, size = read_list()
for i = first + size - 1, first, -1 do -- newest first, so that the oldest is the next to be taken
  local stored = redis.call('HGET', held, ARGV[i])
  if stored then
    count(ledger, 'handed_back', 1)
    redis.call('RPUSH', back, stored)
    redis.call('HDEL', held, ARGV[i])
    settled = settled + 1
  end
end

-- fetch --------------------------------------------------------------------------------------------
local messages, fields, bytes = {}, {}, 0
local function take(stored)
  local i = #messages + 1
  messages[i] = stored
  fields[#fields + 1] = seq .. '-' .. i
  fields[#fields + 1] = stored
  bytes = bytes + #stored
end
-- After each source, before anything is asked that was not asked yet.
local function keep()
  for i = 1, #fields, 500 do
    redis.call('HSET', held, unpack(fields, i, math.min(i + 499, #fields)))
  end
  fields = {}
end
local function room() return #messages < n and bytes < 1048576 end

if redis.call('EXISTS', KEYS[10]) == 1 then n = 0 end

-- Too large ones never reach a consumer, wherever they come from.
local large = 0
local function is_too_large(body, stored)
  if #body <= tonumber(ARGV[6]) then return false end
  large = large + 1
  bytes = bytes + #body -- so that one turn moves no more than it may
  local key = consumer .. ':' .. seq .. '-' .. large .. 'L'
  put_dead(dead, dead_index, key, now, stored or pack_stored(key, 0, 0, whole(now), body), ARGV[8])
  return true
end

-- What took a consumer down travels alone; what was handed back, in batches.
local alone = false
while room() do
  local stored = redis.call('LINDEX', back, -1)
  if not stored then break end
  local _, _, deaths, _, body = unpack_stored(stored)
  if deaths > 0 then
    -- Not alone now: take nothing more, so that the consumer soon holds nothing and gets it.
    alone = true
    if #messages > 0 or ARGV[5] ~= '1' then break end
  end
  redis.call('RPOP', back)
  if not is_too_large(body, stored) then
    take(stored)
    if alone then break end
  end
end
keep()

local function take_due(most)
  if most <= 0 then return end
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', whole(now), 'LIMIT', 0, most)
  if #due > 0 then redis.call('ZREM', delayed, '-') end
  local mild = {}
  for _, stored in ipairs(due) do
    local _, _, deaths = unpack_stored(stored)
    if deaths > 0 then
      redis.call('LPUSH', back, stored) -- from there it travels alone
      redis.call('ZREM', delayed, stored)
    else
      mild[#mild + 1] = stored
    end
  end
  for _, stored in ipairs(mild) do
    if not room() then break end
    local birth, attempts, deaths, since, body = unpack_stored(stored)
    redis.call('ZREM', delayed, stored)
    if since == '0' then stored = pack_stored(birth, attempts, deaths, whole(now), body) end
    if not is_too_large(body, stored) then take(stored) end
  end
  keep()
end

-- Straight from the lists: give each its header.
local function take_listed(list)
  while room() do
    local got = redis.call('RPOP', list, math.min(16, n - #messages))
    if not got then break end
    for _, body in ipairs(got) do
      listed = listed - 1
      if not is_too_large(body) then
        take(consumer .. ':' .. seq .. '-' .. (#messages + 1) .. ' 0 0 ' .. whole(now) .. '\n' .. body)
      end
    end
  end
  keep()
end

if not alone and room() then
  local before = listed
  take_due(before > 0 and math.ceil((n - #messages) / 2) or n - #messages)
  take_listed(wake)
  take_listed(q)
  if listed ~= before then redis.call('HSET', ledger, 'listed', listed) end
  take_due(n - #messages)
end
count(ledger, 'died', large)
if large + died > 0 then cap_dead(dead, dead_index, ledger, tonumber(ARGV[7])) end
return finish(settled, large, messages)
