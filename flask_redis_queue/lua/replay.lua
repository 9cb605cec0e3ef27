-- Bring dead letters back, as if they had never failed. What is no dead letter any more is left alone.
-- KEYS  1 dead  2 dead index  3 back  4 ledger
-- ARGV  the dead letters' keys, oldest first (the caller sends 100 at most)
-- Returns how many came back.
local moved = 0
for _, key in ipairs(ARGV) do
  local record = redis.call('HGET', KEYS[1], key)
  if record then
    local birth, _, _, first, rest = unpack_stored(record)
    local body = string.match(rest, '^[^\n]*\n(.*)$')
    redis.call('LPUSH', KEYS[3], pack_stored(birth, 0, 0, first, body))
    redis.call('HDEL', KEYS[1], key)
    redis.call('ZREM', KEYS[2], key)
    moved = moved + 1
  end
end
count(KEYS[4], 'replayed', moved)
return moved
