-- A block's value: "\0" and a bitmap, or "\1" and columns of two bytes.

-- Where a column of two bytes stands in a list, which begins behind the first byte.
local function place(v, column)
  local at = string.find(v, column, 2, true)
  while at and at % 2 == 1 do
    at = string.find(v, column, at + 1, true)
  end
  return at
end

local function number(columns, at)
  local high, low = string.byte(columns, at, at + 1)
  return high * 256 + low
end

-- The bitmap with one more column.
local function with(v, column)
  local at, bit_of = math.floor(column / 8) + 2, bit.rshift(128, column % 8)
  local byte = string.byte(v, at)
  if not byte then
    return v .. string.rep('\0', at - #v - 1) .. string.char(bit_of)
  end
  return string.sub(v, 1, at - 1) .. string.char(bit.bor(byte, bit_of)) .. string.sub(v, at + 1)
end

-- The bitmap without a column, and without zeros at its end.
local function without(v, column)
  local at, bit_of = math.floor(column / 8) + 2, bit.rshift(128, column % 8)
  local byte = string.byte(v, at)
  if byte and bit.band(byte, bit_of) ~= 0 then
    v = string.sub(v, 1, at - 1) .. string.char(byte - bit_of) .. string.sub(v, at + 1)
  end
  local last = #v
  while last > 1 and string.byte(v, last) == 0 do
    last = last - 1
  end
  return string.sub(v, 1, last)
end

-- The bitmap of a list.
local function to_bitmap(v)
  local bytes, last = {}, 0
  for at = 2, #v, 2 do
    local column = number(v, at)
    local byte = math.floor(column / 8) + 1
    bytes[byte] = bit.bor(bytes[byte] or 0, bit.rshift(128, column % 8))
    if byte > last then last = byte end
  end
  for byte = 1, last do
    bytes[byte] = string.char(bytes[byte] or 0)
  end
  return '\0' .. table.concat(bytes, '', 1, last)
end

-- The list of a bitmap.
local function to_list(v)
  local columns = {}
  for at = 2, #v do
    local byte = string.byte(v, at)
    if byte ~= 0 then
      for i = 0, 7 do
        if bit.band(byte, bit.rshift(128, i)) ~= 0 then
          local column = (at - 2) * 8 + i
          columns[#columns + 1] = string.char(math.floor(column / 256), column % 256)
        end
      end
    end
  end
  return '\1' .. table.concat(columns)
end

-- Above so many bytes a bitmap is changed where it stands.
local LARGE = 65

-- Takes columns out of a block. Whether any is left that is not among `retired`.
local function take(key, columns, retired)
  local v = redis.pcall('GET', key)
  if type(v) ~= 'string' then return false end
  local was, form = v, string.byte(v)
  if form == 1 then
    for i = 1, #columns, 2 do
      local at = place(v, string.sub(columns, i, i + 1))
      if at then v = string.sub(v, 1, at - 1) .. string.sub(v, at + 2) end
    end
  elseif form == 0 and #v <= LARGE then
    for i = 1, #columns, 2 do
      v = without(v, number(columns, i))
    end
  elseif form == 0 then
    for i = 1, #columns, 2 do
      local column = number(columns, i)
      if math.floor(column / 8) + 2 <= #v then redis.call('SETBIT', key, column + 8, 0) end
    end
    local count = redis.call('BITCOUNT', key, 1, -1)
    if count == 0 then
      v = '\0'
    elseif 4 * count < #v then
      v = to_list(redis.call('GET', key))
    else
      for i = 1, #retired, 2 do
        count = count - redis.call('GETBIT', key, number(retired, i) + 8)
      end
      return count > 0
    end
  else
    return false
  end
  if #v == 1 then
    redis.call('DEL', key)
    return false
  end
  if v ~= was then redis.call('SET', key, v) end
  for i = 1, #retired, 2 do
    if string.byte(v) == 1 then
      local at = place(v, string.sub(retired, i, i + 1))
      if at then v = string.sub(v, 1, at - 1) .. string.sub(v, at + 2) end
    else
      v = without(v, number(retired, i))
    end
  end
  return #v > 1
end
