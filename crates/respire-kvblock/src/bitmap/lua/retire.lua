-- Ends incarnations. ARGV: generation, nonce, incarnations. How many there were; -1 in another generation.
if redis.call('HGET', registry, 'gen') ~= ARGV[1] then return -1 end
local count = 0
for i = 3, #ARGV do
  if redis.call('HEXISTS', registry, 'i' .. ARGV[i]) == 1 then
    retire(ARGV[i])
    count = count + 1
  end
end
if count > 0 then changed(ARGV[2]) end
return count
