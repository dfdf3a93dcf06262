-- Lets a write pass if it is of this generation, its incarnations are confirmed in it, and it is later than all others
-- of its writer.
--   KEYS[1] the registry; ARGV[1] generation, [2] writer, [3] number of the write, [4] how many incarnations, and they.
local registry, incarnations = KEYS[1], tonumber(ARGV[4])
local next_arg = 5 + incarnations

local function fence()
  local asked = {'gen'}
  for i = 1, incarnations do
    asked[2 * i] = 'i' .. ARGV[4 + i]
    asked[2 * i + 1] = 's' .. ARGV[4 + i] .. ARGV[2]
  end
  local found = redis.call('HMGET', registry, unpack(asked))
  if found[1] ~= ARGV[1] then return 0 end
  local old = false
  for i = 1, incarnations do
    local record, last = found[2 * i], found[2 * i + 1]
    if not record or string.sub(record, 1, 16) ~= ARGV[1] or not last then return 0 end
    old = old or tonumber(last) >= tonumber(ARGV[3])
  end
  if old then return -1 end
  for i = 1, incarnations do
    redis.call('HSET', registry, asked[2 * i + 1], ARGV[3])
  end
  return 1
end
