-- Takes retired columns out of blocks. KEYS behind the registry: the blocks. How many have changed; -1 if the columns
-- are not retired as they were.
if not are_retired() then return -1 end

-- For a list the columns themselves, for a bitmap what is to stay of each byte.
local gone, stay = {}, {}
for i = 1, #columns, 2 do
  local column = number(columns, i)
  local at = math.floor(column / 8) + 2
  gone[string.sub(columns, i, i + 1)] = true
  stay[at] = bit.band(stay[at] or 255, bit.bnot(bit.rshift(128, column % 8)))
end

local function swept(v)
  if string.byte(v) == 1 then
    local left = {}
    for i = 2, #v, 2 do
      local column = string.sub(v, i, i + 1)
      if not gone[column] then left[#left + 1] = column end
    end
    return '\1' .. table.concat(left)
  end
  for at, mask in pairs(stay) do
    local byte = string.byte(v, at)
    if byte and bit.band(byte, mask) ~= byte then
      v = string.sub(v, 1, at - 1) .. string.char(bit.band(byte, mask)) .. string.sub(v, at + 1)
    end
  end
  if #v <= LARGE then return without(v, 65535) end
  return v
end

local count = 0
for k = 2, #KEYS do
  local v = redis.pcall('GET', KEYS[k])
  if type(v) == 'string' and #v > 0 and string.byte(v) < 2 then
    local left = swept(v)
    if left ~= v then
      count = count + 1
      if string.byte(left) == 0 and not string.find(left, '[^%z]', 2) or #left == 1 then
        redis.call('DEL', KEYS[k])
      else
        redis.call('SET', KEYS[k], left)
      end
    end
  end
end
return count
