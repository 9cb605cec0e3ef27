-- Bring dead letters back, as if they had never failed. What is no dead letter any more is left alone.
-- KEYS  1 dead  2 dead index  3 back  4 ledger
-- ARGV  a dead letter's key, and what its bytes become ('': they stay); oldest first (100 at most)
-- Returns how many came back.
redis.call('HDEL', KEYS[1], '-')
redis.call('ZREM', KEYS[2], '-')
local moved = 0
for i = 1, #ARGV, 2 do
  local key = ARGV[i]
  local record = redis.call('HGET', KEYS[1], key)
  if record then
    local birth, _, _, first, rest = unpack_stored(record)
    local body = ARGV[i + 1]
    if body == '' then body = string.match(rest, '^[^\n]*\n(.*)$') end
    redis.call('LPUSH', KEYS[3], pack_stored(birth, 0, 0, first, body))
    redis.call('HDEL', KEYS[1], key)
    redis.call('ZREM', KEYS[2], key)
    moved = moved + 1
  end
end
count(KEYS[4], 'replayed', moved)
return moved
