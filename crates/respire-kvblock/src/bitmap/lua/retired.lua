-- Whether these columns are retired since those times, in this generation.
--   ARGV[1] generation, [2] a nonce that may be needed, [3] columns of two bytes, then the times.
local columns = ARGV[3]
local function are_retired()
  if redis.call('HGET', registry, 'gen') ~= ARGV[1] then return false end
  for i = 1, #columns, 2 do
    local high, low = string.byte(columns, i, i + 1)
    local since = redis.call('HGET', registry, 'r' .. (high * 256 + low))
    if since ~= ARGV[3 + (i + 1) / 2] then return false end
  end
  return true
end
