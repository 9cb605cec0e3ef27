-- Begin one incarnation of a consumer: its lease and its (empty) hash of held messages.
-- KEYS  1 leases  2 held  3 ledger  4 a key that does not exist, and does not afterwards
-- ARGV  1 consumer  2 lease ms
-- Returns {now, sequence}. A repeat changes nothing but the lease's end. Each incarnation begins at
--       a sequence of its own: a copy of this request that comes after the burial makes another one,
--       and to that every request of the old one is stale.
local now = now_ms()

-- What a consumer's scripts call is called here on nothing, so that a login that may not do all of it
-- is refused now, and not when there is a message in hand. First what takes, then what it takes away.
local nothing = KEYS[4]
redis.call('HDEL', nothing, '-') -- the first write: no full server refuses it, and the next ones pass then
for _, read in ipairs({'EXISTS', 'GET', 'HGETALL', 'HKEYS', 'HLEN', 'LLEN', 'ZCARD', 'RPOP', 'ZPOPMIN'}) do
  redis.call(read, nothing)
end
redis.call('HEXISTS', nothing, '-')
redis.call('LINDEX', nothing, 0)
redis.call('ZRANGE', nothing, 0, 0)
redis.call('ZRANGEBYSCORE', nothing, 0, 0)
redis.call('ZSCORE', nothing, '-')
redis.call('ZREM', nothing, '-')
redis.call('HSET', nothing, '-', 1)
redis.call('HDEL', nothing, '-')
redis.call('LPUSH', nothing, 1)
redis.call('RPOP', nothing)
redis.call('RPUSH', nothing, 1)
redis.call('RPOP', nothing)

redis.call('HDEL', KEYS[2], '-') -- a first write that no full server refuses; the next ones pass then
local seq = redis.call('HGET', KEYS[2], '#')
renew(KEYS[1], ARGV[1], now, tonumber(ARGV[2])) -- a lease without a hash is buried; the reverse would stay
if not seq then
  seq = whole((redis.call('HINCRBY', KEYS[3], 'entered', 1) - 1) * 1000000)
  redis.call('HSET', KEYS[2], '#', seq)
end
return {now, tonumber(seq)}
