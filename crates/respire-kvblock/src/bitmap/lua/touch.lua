-- Gives a sign of life of a writer, and takes those off its incarnations that have given none for too long.
--   ARGV: generation, nonce, writer, after how many milliseconds a writer counts as silent, incarnations. Off how many
--   somebody was taken; -1 in another generation.
if redis.call('HGET', registry, 'gen') ~= ARGV[1] then return -1 end
local present, count = seen(ARGV[3], tonumber(ARGV[4])), 0
for i = 5, #ARGV do
  local id = ARGV[i]
  -- Whoever was taken off has no say in it any more.
  if redis.call('HEXISTS', registry, 's' .. id .. ARGV[3]) == 1 and take_off(id, present) then
    count = count + 1
  end
end
if count > 0 then changed(ARGV[2]) end
return count
