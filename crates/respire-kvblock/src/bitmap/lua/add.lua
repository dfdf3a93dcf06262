-- Adds columns to blocks, and maps engine keys.
--   ARGV behind the fence's: bytes of a bitmap of all columns, how many blocks, the columns, a list for each engine key.
--   KEYS behind the registry: the blocks, then the engine keys.
local width, blocks, columns = tonumber(ARGV[next_arg]), tonumber(ARGV[next_arg + 1]), ARGV[next_arg + 2]

local function put(key, v)
  local was = v
  v = v or '\1'
  if string.byte(v) == 1 then
    for i = 1, #columns, 2 do
      local column = string.sub(columns, i, i + 1)
      if not place(v, column) then v = v .. column end
    end
    if v == was then return end
    if #v - 1 > width then v = to_bitmap(v) end
  elseif #v <= LARGE then
    for i = 1, #columns, 2 do
      v = with(v, number(columns, i))
    end
    if v == was then return end
  else
    for i = 1, #columns, 2 do
      redis.call('SETBIT', key, number(columns, i) + 8, 1)
    end
    return
  end
  redis.call('SET', key, v)
end

-- How many request keys an engine key keeps, of earlier mappings at least: whoever evicts it looks at all of them in one script.
local MAPPED_MAX = 1024

-- The names of blocks up to their hashes.
local block_prefix = string.sub(KEYS[2], 1, -9)

-- What is mapped again comes last. A block that falls off could never be evicted by this engine key any more, whoever holds it,
-- so it goes: what is not there is a miss, and what nobody can take away would be believed for ever.
local function map(key, v, list)
  v = v or ''
  if string.sub(v, -#list) == list then return end
  local named, kept = {}, {}
  for i = 1, #list, 8 do
    named[string.sub(list, i, i + 7)] = true
  end
  for i = 1, #v, 8 do
    local hash = string.sub(v, i, i + 7)
    if not named[hash] then kept[#kept + 1] = hash end
  end
  local first = math.min(math.max(1, #kept + #list / 8 - MAPPED_MAX + 1), #kept + 1)
  for i = 1, first - 1 do
    redis.call('DEL', block_prefix .. kept[i])
  end
  redis.call('SET', key, table.concat(kept, '', first) .. list)
end

-- Everything is read before anything is written, so that a key that is somebody else's leaves nothing half done.
local values = {}
for k = 2, #KEYS do
  local v = redis.pcall('GET', KEYS[k])
  local foreign = type(v) == 'table'
  if v and not foreign then
    if k <= blocks + 1 then
      local form = string.byte(v)
      foreign = #v < 2 or form > 1 or (form == 1 and #v % 2 == 0)
    else
      foreign = #v == 0 or #v % 8 ~= 0
    end
  end
  if foreign then return -k end
  values[k] = v
end
local passed = fence()
if passed ~= 1 then return passed end
for k = 2, blocks + 1 do
  put(KEYS[k], values[k])
end
for k = blocks + 2, #KEYS do
  map(KEYS[k], values[k], ARGV[next_arg + 1 + k - blocks])
end
return 1
