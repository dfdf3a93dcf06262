-- Frees retired columns, after a full pass. 1, or -1 if they are not retired as they were.
if not are_retired() then return -1 end
local free = {}
for column in string.gmatch(redis.call('HGET', registry, 'free'), '%d+') do
  free[#free + 1] = tonumber(column)
end
for i = 1, #columns, 2 do
  local high, low = string.byte(columns, i, i + 1)
  redis.call('HDEL', registry, 'r' .. (high * 256 + low))
  free[#free + 1] = high * 256 + low
end
-- The lowest are given out first, so that bitmaps stay short.
table.sort(free)
redis.call('HSET', registry, 'free', table.concat(free, ',') .. ',')
changed(ARGV[2])
return 1
