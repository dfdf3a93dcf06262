-- Takes columns out of blocks, and drops mappings of which no block is held any more.
--   ARGV behind the fence's: the columns, retired columns, the nonce that both lists are of, whether the write depends
--   on that nonce, how many blocks, for each engine key how many blocks it is believed to map to.
--   KEYS behind the registry: the blocks; then each engine key with its blocks.
-- An answer for each engine key: 0 it maps to something else, 1 it stays, 2 it is gone, 3 it was not there.
local columns, retired, nonce = ARGV[next_arg], ARGV[next_arg + 1], ARGV[next_arg + 2]
local blocks = tonumber(ARGV[next_arg + 4])
local depends = ARGV[next_arg + 3] == '1'
if depends or #retired > 0 then
  if redis.call('HGET', registry, 'nonce') ~= nonce then
    if depends then return {0} end
    retired = ''
  end
end
local passed = fence()
if passed ~= 1 then return {passed} end

for k = 2, blocks + 1 do
  take(KEYS[k], columns, '')
end

local function evict(k, count)
  local v = redis.pcall('GET', KEYS[k])
  if type(v) ~= 'string' then return 3 end
  if #v ~= 8 * count then return 0 end
  for i = 1, count do
    if string.sub(v, 8 * i - 7, 8 * i) ~= string.sub(KEYS[k + i], -8) then return 0 end
  end
  local held = false
  for i = k + 1, k + count do
    if take(KEYS[i], columns, retired) then held = true end
  end
  if held then return 1 end
  redis.call('DEL', KEYS[k])
  return 2
end

local answers, k = {1}, blocks + 2
for group = next_arg + 5, #ARGV do
  local count = tonumber(ARGV[group])
  answers[#answers + 1] = evict(k, count)
  k = k + 1 + count
end
return answers
