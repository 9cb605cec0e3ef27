-- End a consumer: what it still held goes to `back` in its order, or to the dead letters when it has
-- taken too many consumers down. All or nothing; a repeat finds nothing to do.
-- KEYS  1 leases  2 held of the one to bury  3 back  4 dead  5 dead index  6 ledger
-- ARGV  1 the consumer to bury  2 max deliveries  3 'lapsed' only if its lease has ended | 'known' it has
--       ended for sure  4 dead letter cap (0: none)  5 JSON line for those that become dead letters
--       6 'all' it held may have taken it down | 'named' only those named last
--       7 how many tags follow that are handled already, then these, then the named ones
-- Returns {buried (1 or 0), messages put back, dead letters made, messages settled as handled}
local now = now_ms()
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[3] == 'lapsed' and (not lease or tonumber(lease) >= now) then return {0, 0, 0, 0} end
local all = redis.call('HGETALL', KEYS[2])
local held = {}
for i = 1, #all, 2 do
  local seq, pos = string.match(all[i], '^(%d+)-(%d+)$')
  if seq then held[#held + 1] = {tonumber(seq), tonumber(pos), all[i], all[i + 1]} end
end
table.sort(held, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
local is_handled, is_guilty = {}, {}
for i = 8, #ARGV do
  if i < 8 + tonumber(ARGV[7]) then is_handled[ARGV[i]] = true else is_guilty[ARGV[i]] = true end
end
local back, dead, handled, tags = {}, {}, 0, {}
for _, one in ipairs(held) do
  local birth, attempts, deaths, first, body = unpack_stored(one[4])
  local guilty = ARGV[6] == 'all' or is_guilty[one[3]]
  if guilty then deaths = deaths + 1 end
  local stored = pack_stored(birth, attempts, deaths, first, body)
  tags[#tags + 1] = one[3]
  if is_handled[one[3]] then
    handled = handled + 1
  elseif guilty and deaths >= tonumber(ARGV[2]) then
    dead[#dead + 1] = {one[3], stored}
  else
    back[#back + 1] = stored
  end
end
redis.call('HDEL', KEYS[2], '-') -- a first write that no full server refuses; the next ones pass then
if #dead > 0 then
  redis.call('HSET', KEYS[2], '#', redis.call('HGET', KEYS[2], '#'))
  redis.call('ZADD', KEYS[1], 'XX', lease or 0, ARGV[1])
end
count(KEYS[6], 'buried', #back + #dead)
for _, stored in ipairs(back) do redis.call('LPUSH', KEYS[3], stored) end
for _, one in ipairs(dead) do
  put_dead(KEYS[4], KEYS[5], ARGV[1] .. ':' .. one[1], now, one[2], ARGV[5])
end
count(KEYS[6], 'handled', handled)
tags[#tags + 1] = '#'
for i = 1, #tags, 500 do
  redis.call('HDEL', KEYS[2], unpack(tags, i, math.min(i + 499, #tags)))
end
redis.call('ZREM', KEYS[1], ARGV[1]) -- last: a lease without a hash is buried again, and does no harm
count(KEYS[6], 'died', #dead)
if #dead > 0 then cap_dead(KEYS[4], KEYS[5], KEYS[6], tonumber(ARGV[4])) end
return {lease and 1 or 0, #back, #dead, handled}
