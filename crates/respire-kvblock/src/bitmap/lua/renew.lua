-- Renews leases. ARGV: generation, nonce, milliseconds, incarnations. How many there were; -1 in another generation.
if redis.call('HGET', registry, 'gen') ~= ARGV[1] then return -1 end
local count, is_changed, until_when = 0, false, decimal(now() + tonumber(ARGV[3]))
for i = 4, #ARGV do
  if redis.call('HEXISTS', registry, 'i' .. ARGV[i]) == 1 then
    redis.call('HSET', registry, 'l' .. ARGV[i], until_when)
    if redis.call('HDEL', registry, 'x' .. ARGV[i]) == 1 then is_changed = true end
    count = count + 1
  end
end
if is_changed then changed(ARGV[2]) end
return count
