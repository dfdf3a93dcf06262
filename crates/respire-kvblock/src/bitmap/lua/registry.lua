local registry = KEYS[1]

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function decimal(number)
  return string.format('%.0f', number)
end

-- The registry has changed in a way that readers have to know of.
local function changed(nonce)
  redis.call('HSET', registry, 'nonce', nonce)
  redis.call('HINCRBY', registry, 'version', 1)
end

-- Gives a sign of life of a writer, and forgets those that were silent for so many milliseconds. Those that were not, as
-- the keys of a table.
local function seen(writer, timeout)
  local at, present, list = now(), {[writer] = true}, {}
  for other, last in string.gmatch(redis.call('HGET', registry, 'writers') or '', '(%x+):(%d+),') do
    -- A clock that was set back makes nobody younger.
    last = math.min(tonumber(last), at)
    if other ~= writer and at - last < timeout then
      present[other] = true
      list[#list + 1] = other .. ':' .. decimal(last) .. ','
    end
  end
  redis.call('HSET', registry, 'writers', table.concat(list) .. writer .. ':' .. decimal(at) .. ',')
  return present
end

-- Takes the writers off an incarnation that are not among the `present`. Whether there were any.
local function take_off(id, present)
  local left, are_some = {}, false
  for writer in string.gmatch(redis.call('HGET', registry, 'j' .. id), string.rep('%x', 16)) do
    if present[writer] then
      left[#left + 1] = writer
    else
      redis.call('HDEL', registry, 's' .. id .. writer)
      are_some = true
    end
  end
  if are_some then
    redis.call('HSET', registry, 'j' .. id, table.concat(left))
    redis.call('HINCRBY', registry, 't' .. id, 1)
  end
  return are_some
end

-- The number of the last life of a pod that is over, or one that is not below it: of a pod that is not listed any more it is not
-- known.
local function last_ended(pod)
  local number = redis.call('HGET', registry, 'd' .. pod)
  if number then return tonumber(string.match(number, '^%d+')) end
  local id = redis.call('HGET', registry, 'p' .. pod)
  if id then return tonumber(redis.call('HGET', registry, 'n' .. id)) - 1 end
  return tonumber(redis.call('HGET', registry, 'forgotten') or '0')
end

local function ended(pod, number)
  if tonumber(number) > last_ended(pod) then
    redis.call('HSET', registry, 'd' .. pod, number .. ' ' .. decimal(now()))
  end
end

-- Ends an incarnation: its columns mean nobody from now on.
local function retire(id)
  local record = redis.call('HGET', registry, 'i' .. id)
  local pod, since = string.sub(record, 18), decimal(now())
  for column in string.gmatch(redis.call('HGET', registry, 'k' .. id), '%d+') do
    redis.call('HDEL', registry, 'c' .. column)
    redis.call('HSET', registry, 'r' .. column, since)
  end
  for writer in string.gmatch(redis.call('HGET', registry, 'j' .. id), string.rep('%x', 16)) do
    redis.call('HDEL', registry, 's' .. id .. writer)
  end
  ended(pod, redis.call('HGET', registry, 'n' .. id))
  redis.call('HDEL', registry, 'i' .. id, 'n' .. id, 'k' .. id, 'j' .. id, 'l' .. id, 'x' .. id,
    't' .. id)
  if redis.call('HGET', registry, 'p' .. pod) == id then
    redis.call('HDEL', registry, 'p' .. pod)
  end
end
