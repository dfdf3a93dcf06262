-- Ends what a pod is in, up to a life of this number. ARGV: generation, nonce, pod, number; or an incarnation in place of
-- both. How many there were; -1 in another generation.
if redis.call('HGET', registry, 'gen') ~= ARGV[1] then return -1 end
local pod, number = ARGV[3], ARGV[4]
local id = pod
if number then
  id = redis.call('HGET', registry, 'p' .. pod)
  ended(pod, number)
  if not id or tonumber(redis.call('HGET', registry, 'n' .. id)) > tonumber(number) then return 0 end
end
if redis.call('HEXISTS', registry, 'i' .. id) == 0 then return 0 end
retire(id)
changed(ARGV[2])
return 1
