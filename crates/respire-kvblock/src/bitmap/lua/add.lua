-- Adds columns to blocks, and maps engine keys.
--   ARGV behind the fence's: bytes of a bitmap of all columns, how many blocks, the columns, a list for each engine key.
--   KEYS behind the registry: the blocks, then the engine keys.
-- The answer is 1, or 2 if an engine key has too many request keys by now.
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

-- What is mapped again comes last. Says whether there are too many then: they are let go by another script, once all scripts of the
-- call are through, so that none takes away what another one has added.
local function map(key, v, list)
  v = v or ''
  if string.sub(v, -#list) ~= list then
    local named, kept = {}, {}
    for i = 1, #list, 8 do
      named[string.sub(list, i, i + 7)] = true
    end
    for i = 1, #v, 8 do
      local hash = string.sub(v, i, i + 7)
      if not named[hash] then kept[#kept + 1] = hash end
    end
    v = table.concat(kept) .. list
    redis.call('SET', key, v)
  end
  return #v > 8 * MAPPED_MAX
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
local answer = 1
for k = blocks + 2, #KEYS do
  if map(KEYS[k], values[k], ARGV[next_arg + 1 + k - blocks]) then answer = 2 end
end
return answer
