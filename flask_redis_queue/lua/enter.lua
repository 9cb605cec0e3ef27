-- Begin one incarnation of a consumer: its lease and its (empty) hash of held messages.
-- KEYS  1 leases  2 held  3 ledger
-- ARGV  1 consumer  2 lease ms
-- Returns {now, sequence}. A repeat changes nothing but the lease's end. Each incarnation begins at
--       a sequence of its own: a copy of this request that comes after the burial makes another one,
--       and to that every request of the old one is stale.
local now = now_ms()
redis.call('HDEL', KEYS[2], '-') -- a first write that no full server refuses; the next ones pass then
local seq = redis.call('HGET', KEYS[2], '#')
renew(KEYS[1], ARGV[1], now, tonumber(ARGV[2])) -- a lease without a hash is buried; the reverse would stay
if not seq then
  seq = whole((redis.call('HINCRBY', KEYS[3], 'entered', 1) - 1) * 1000000)
  redis.call('HSET', KEYS[2], '#', seq)
end
return {now, tonumber(seq)}
