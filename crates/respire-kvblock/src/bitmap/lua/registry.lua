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

-- The number of the last life of a pod that is over.
local function last_ended(pod)
  return tonumber(redis.call('HGET', registry, 'd' .. pod) or '0')
end

local function ended(pod, number)
  if tonumber(number) > last_ended(pod) then redis.call('HSET', registry, 'd' .. pod, number) end
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
  redis.call('HDEL', registry, 'i' .. id, 'n' .. id, 'k' .. id, 'j' .. id, 'l' .. id, 'x' .. id)
  if redis.call('HGET', registry, 'p' .. pod) == id then
    redis.call('HDEL', registry, 'p' .. pod)
  end
end
