-- Lets go of the oldest request keys of engine keys that have too many, and of the blocks at their end.
--   ARGV behind the fence's: the request keys of the call that has mapped the latest.
--   KEYS behind the registry: one of the blocks, by which the others are named; then the engine keys.
-- A block that an engine key does not reach any more could not be evicted by it, whoever holds it, so it goes: what is not there is
-- a miss, and what nobody takes away would be believed for ever. What the call itself has added or mapped stays, however much it is.
local passed = fence()
if passed ~= 1 then return passed end

local block_prefix, latest, of_call = string.sub(KEYS[2], 1, -9), ARGV[next_arg], {}
for i = 1, #latest, 8 do
  of_call[string.sub(latest, i, i + 7)] = true
end
for k = 3, #KEYS do
  local v = redis.pcall('GET', KEYS[k])
  local excess = 0
  if type(v) == 'string' and #v % 8 == 0 then excess = #v / 8 - MAPPED_MAX end
  if excess > 0 then
    local kept = {}
    for i = 1, #v, 8 do
      local hash = string.sub(v, i, i + 7)
      if excess > 0 and not of_call[hash] then
        excess = excess - 1
        redis.call('DEL', block_prefix .. hash)
      else
        kept[#kept + 1] = hash
      end
    end
    if 8 * #kept < #v then redis.call('SET', KEYS[k], table.concat(kept)) end
  end
end
return 1
