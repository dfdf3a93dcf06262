-- Marks leases that have run out, and ends what has been lapsed for long enough.
--   ARGV: generation, nonce, milliseconds that a lapse can be taken back, incarnations. How many have changed; -1 in
--   another generation.
if redis.call('HGET', registry, 'gen') ~= ARGV[1] then return -1 end
local count, at = 0, now()
for i = 4, #ARGV do
  local id = ARGV[i]
  local lease = redis.call('HGET', registry, 'l' .. id)
  if lease and tonumber(lease) < at then
    local since = redis.call('HGET', registry, 'x' .. id)
    if not since then
      redis.call('HSET', registry, 'x' .. id, decimal(at))
      count = count + 1
    elseif at - tonumber(since) >= tonumber(ARGV[3]) then
      retire(id)
      count = count + 1
    end
  end
end
if count > 0 then changed(ARGV[2]) end
return count
