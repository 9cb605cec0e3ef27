-- Begin one incarnation of a consumer: its lease and its (empty) hash of held messages.
-- KEYS  1 leases  2 held
-- ARGV  1 consumer  2 lease ms
-- Returns now. A repeat changes nothing but the lease's end.
local now = now_ms()
redis.call('HDEL', KEYS[2], '-') -- a first write that no full server refuses; the next ones pass then
redis.call('HSETNX', KEYS[2], '#', 0)
renew(KEYS[1], ARGV[1], now, tonumber(ARGV[2]))
return now
