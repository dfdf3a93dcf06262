-- Takes a writer off its incarnations. ARGV: generation, nonce, writer, incarnations. How many there were; -1 in another
-- generation.
if redis.call('HGET', registry, 'gen') ~= ARGV[1] then return -1 end
local writer, count = ARGV[3], 0
for i = 4, #ARGV do
  local id, present = ARGV[i], {}
  if redis.call('HDEL', registry, 's' .. id .. writer) == 1 then
    for other in string.gmatch(redis.call('HGET', registry, 'j' .. id), string.rep('%x', 16)) do
      present[other] = other ~= writer
    end
    take_off(id, present)
    count = count + 1
  end
end
if count > 0 then changed(ARGV[2]) end
return count
