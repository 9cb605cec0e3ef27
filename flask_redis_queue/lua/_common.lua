-- Shared by every script: the broker puts this text before each of them.
-- A stored message that was taken once is `birth attempts deaths first\n` + its exact bytes:
--   birth     consumer:tag of its first fetch, or request:index of a delayed send; unique in the queue
--   attempts  times its handler failed        deaths  times its consumer vanished with it
--   first     server time in ms when it was first taken (0: never yet)
-- Nothing here parses the bytes behind the header.
-- What a script wrote before Redis refuses it a command stays written. So each calls whatever might
-- be refused before it takes anything away, be it on nothing: a field or a member called `-`.

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function unpack_stored(stored)
  local birth, attempts, deaths, first, at = string.match(stored, '^(%S+) (%d+) (%d+) (%d+)\n()')
  return birth, tonumber(attempts), tonumber(deaths), first, string.sub(stored, at)
end

local function pack_stored(birth, attempts, deaths, first, body)
  return birth .. ' ' .. attempts .. ' ' .. deaths .. ' ' .. first .. '\n' .. body
end

-- Whole milliseconds as text: tostring() would write 1.7954936851722e+12.
local function whole(n) return string.format('%.0f', n) end

-- Lease. Restarts everybody's once where the server's time has jumped: the caller is alive, so if
-- its own lease has lapsed, or ends later than any renewal could make it, the clock moved, not it.
local function renew(leases, consumer, now, lease_ms)
  local own = redis.call('ZSCORE', leases, consumer)
  if own and (tonumber(own) < now or tonumber(own) > now + 2 * lease_ms + 1000) then
    for _, other in ipairs(redis.call('ZRANGE', leases, 0, 999)) do
      redis.call('ZADD', leases, whole(now + lease_ms), other)
    end
  else
    redis.call('ZADD', leases, whole(now + lease_ms), consumer)
  end
end

-- Ledger. `listed` is what we believe stands in q and wake; any difference was pushed or popped by
-- programs that know nothing of us.
local function fold_foreign(q, wake, ledger)
  local length = redis.call('LLEN', q) + redis.call('LLEN', wake)
  local known = tonumber(redis.call('HGET', ledger, 'listed') or '0')
  if length > known then
    redis.call('HINCRBY', ledger, 'foreign_in', length - known)
  elseif length < known then
    redis.call('HINCRBY', ledger, 'foreign_out', known - length)
  end
  if length ~= known then redis.call('HSET', ledger, 'listed', length) end
  return length
end

local function count(ledger, field, n)
  if n ~= 0 then redis.call('HINCRBY', ledger, field, n) end
end

-- Dead letters: header line, one line of JSON about the death, the exact bytes.
local function put_dead(dead, index, key, now, stored, meta)
  local head, body = string.match(stored, '^([^\n]*\n)(.*)$')
  redis.call('HSET', dead, key, head .. meta .. '\n' .. body)
  redis.call('ZADD', index, whole(now), key)
end

local function cap_dead(dead, index, ledger, max)
  if max <= 0 then return end
  local over = math.min(redis.call('ZCARD', index) - max, 500)
  if over <= 0 then return end
  local oldest = redis.call('ZPOPMIN', index, over)
  for i = 1, #oldest, 2 do redis.call('HDEL', dead, oldest[i]) end
  count(ledger, 'purged', over)
end
