-- Delete dead letters for good; the ledger counts them as purged.
-- KEYS  1 dead  2 dead index  3 ledger
-- ARGV  the dead letters' keys (the caller sends 100 at most)
-- Returns how many there were.
redis.call('HDEL', KEYS[1], '-')
redis.call('ZREM', KEYS[2], '-')
count(KEYS[3], 'purged', #ARGV)
local gone = 0
for _, key in ipairs(ARGV) do
  if redis.call('HDEL', KEYS[1], key) == 1 then
    redis.call('ZREM', KEYS[2], key)
    gone = gone + 1
  end
end
count(KEYS[3], 'purged', gone - #ARGV)
return gone
