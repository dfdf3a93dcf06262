-- Forgets how many lives pods have had that are gone for long enough. ARGV: generation, a nonce, how many milliseconds, pods.
-- How many were forgotten; -1 in another generation.
if redis.call('HGET', registry, 'gen') ~= ARGV[1] then return -1 end
local highest = tonumber(redis.call('HGET', registry, 'forgotten') or '0')
local at, count = now(), 0
for i = 4, #ARGV do
  local pod = ARGV[i]
  local number, since =
    string.match(redis.call('HGET', registry, 'd' .. pod) or '', '^(%d+) (%d+)$')
  if number and redis.call('HEXISTS', registry, 'p' .. pod) == 0
    and at - tonumber(since) >= tonumber(ARGV[3]) then
    redis.call('HDEL', registry, 'd' .. pod)
    highest, count = math.max(highest, tonumber(number)), count + 1
  end
end
-- Whatever life one of them has next is not one that it has had.
if count > 0 then
  redis.call('HSET', registry, 'forgotten', decimal(highest))
  changed(ARGV[2])
end
return count
