-- Joins the incarnation of a pod, or begins one, and gives columns to entries that have none.
--   ARGV: generation, a nonce that may be needed, writer, an incarnation that may be needed, the one that is wanted
--   ('' for any, 'new' for none that is there), the pod, the milliseconds of a lease or '', the most columns, entries.
-- The incarnation; '' if it is another than the wanted one; 0 in another generation; -1 without a free column.
local gen, nonce, writer, fresh, wanted, pod = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('HGET', registry, 'gen') ~= gen then return 0 end

local is_changed = false
local id = redis.call('HGET', registry, 'p' .. pod)
local record = id and redis.call('HGET', registry, 'i' .. id)
if wanted == 'new' and record then return '' end
if wanted ~= '' and wanted ~= 'new' and wanted ~= id then return '' end
if record and string.sub(record, 1, 16) ~= gen then
  -- Its writer has not confirmed it, and now cannot any more.
  retire(id)
  record, is_changed = false, true
  if wanted ~= '' then
    changed(nonce)
    return ''
  end
end
if not record then
  id, is_changed = fresh, true
  redis.call('HSET', registry, 'p' .. pod, id, 'i' .. id, gen .. ' ' .. pod, 'k' .. id, '', 'j' .. id, '')
end

local joined = redis.call('HGET', registry, 'j' .. id)
if redis.call('HEXISTS', registry, 's' .. id .. writer) == 0 then
  redis.call('HSET', registry, 'j' .. id, joined .. writer, 's' .. id .. writer, 0)
end
if ARGV[7] ~= '' then
  redis.call('HSET', registry, 'l' .. id, decimal(now() + tonumber(ARGV[7])))
  if redis.call('HDEL', registry, 'x' .. id) == 1 then is_changed = true end
end

local columns, known = redis.call('HGET', registry, 'k' .. id), {}
for column in string.gmatch(columns, '%d+') do
  known[string.sub(redis.call('HGET', registry, 'c' .. column), 18)] = true
end

local function column_for(entry)
  local free = redis.call('HGET', registry, 'free')
  local column, rest = string.match(free, '^(%d+),(.*)$')
  if column then
    redis.call('HSET', registry, 'free', rest)
  else
    column = redis.call('HGET', registry, 'next')
    if tonumber(column) >= tonumber(ARGV[8]) then return false end
    redis.call('HINCRBY', registry, 'next', 1)
  end
  redis.call('HSET', registry, 'c' .. column, id .. ' ' .. entry)
  return column
end

local is_full = false
for i = 9, #ARGV do
  if not known[ARGV[i]] then
    local column = column_for(ARGV[i])
    if not column then
      is_full = true
      break
    end
    columns, known[ARGV[i]], is_changed = columns .. column .. ',', true, true
  end
end
redis.call('HSET', registry, 'k' .. id, columns)
if is_changed then changed(nonce) end
if is_full then return -1 end
return id
