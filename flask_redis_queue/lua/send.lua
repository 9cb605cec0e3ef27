-- Store messages once, however often the request is repeated.
-- KEYS  1 q  2 wake  3 delayed  4 ledger  5 back  6 seen of this request  7 dedup (only if a dedup window is given)
-- ARGV  1 token of this call  2 seen TTL ms  3 max length (0: none)  4 delay ms
--       5 dedup window ms (0: none)  6 first id  7 bytes of each message…
-- Returns {status, now, id}: 'ok' stored (by this call, now or before) · 'seen' stored by an earlier
--       call with this id · 'duplicate' the dedup key is taken, id is its first message's · 'full'
local now = now_ms()
local seen = redis.call('GET', KEYS[6])
if seen then
  return {seen == ARGV[1] and 'ok' or 'seen', now, ARGV[6]}
end
local dedup_ms = tonumber(ARGV[5])
if dedup_ms > 0 then
  local first = redis.call('GET', KEYS[7])
  if first then return {'duplicate', now, first} end
end
local n = #ARGV - 6
local length = redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2])
local max = tonumber(ARGV[3])
if max > 0 and length + redis.call('LLEN', KEYS[5]) + redis.call('ZCARD', KEYS[3]) + n > max then
  return {'full', now, ''}
end
local delay = tonumber(ARGV[4])
if delay > 0 then
  for i = 1, n do
    local stored = pack_stored(ARGV[1] .. ':' .. i, 0, 0, 0, ARGV[6 + i])
    redis.call('ZADD', KEYS[3], whole(now + delay), stored)
  end
  count(KEYS[4], 'delayed_sent', n)
else
  for i = 1, n do redis.call('LPUSH', KEYS[1], ARGV[6 + i]) end
  local known = tonumber(redis.call('HGET', KEYS[4], 'listed') or '0')
  if length > known then count(KEYS[4], 'foreign_in', length - known) end
  if length < known then count(KEYS[4], 'foreign_out', known - length) end
  count(KEYS[4], 'sent', n)
  redis.call('HSET', KEYS[4], 'listed', length + n)
end
redis.call('SET', KEYS[6], ARGV[1], 'PX', ARGV[2])
if dedup_ms > 0 then redis.call('SET', KEYS[7], ARGV[6], 'PX', dedup_ms) end
return {'ok', now, ARGV[6]}
