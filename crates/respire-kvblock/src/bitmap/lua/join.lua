-- Joins the incarnation of a pod, or begins one, and gives columns to entries that have none.
--   ARGV: generation, a nonce that may be needed, writer, an incarnation that may be needed, the one that is wanted
--   ('' for any, 'new' for one that is the first, 'n' and a number for the pod's life of that number), the pod, the milliseconds of a lease or '', the most columns,
--   the number of the writer's last write, an incarnation and how often writers were taken off it as the caller has read
--   it, after how many milliseconds a writer counts as silent, entries.
-- The incarnation; '' if it is another than the wanted one; 0 in another generation, or if writers were taken off since;
-- -1 without a free column.
local gen, nonce, writer, fresh, wanted, pod = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('HGET', registry, 'gen') ~= gen then return 0 end

local is_changed = false
local number = last_ended(pod) + 1
if string.sub(wanted, 1, 1) == 'n' and wanted ~= 'new' then
  -- That life is over already: the caller is behind.
  if tonumber(string.sub(wanted, 2)) < number then return '' end
  number = tonumber(string.sub(wanted, 2))
end
if wanted == 'new' and number > 1 then return '' end
local id = redis.call('HGET', registry, 'p' .. pod)
local record = id and redis.call('HGET', registry, 'i' .. id)
if record and string.sub(record, 1, 16) ~= gen then
  -- Its writer has not confirmed it, and now cannot any more.
  retire(id)
  record = false
  changed(nonce)
  if number <= last_ended(pod) then
    if string.sub(wanted, 1, 1) == 'n' and wanted ~= 'new' then return '' end
    number = last_ended(pod) + 1
  end
end
if record then
  local is_wanted = wanted == '' or wanted == id
    or wanted == 'n' .. redis.call('HGET', registry, 'n' .. id)
  if not is_wanted then return '' end
elseif wanted == '' or string.sub(wanted, 1, 1) == 'n' then
  id, is_changed = fresh, true
  redis.call('HSET', registry, 'p' .. pod, id, 'i' .. id, gen .. ' ' .. pod, 'n' .. id,
    decimal(number), 'k' .. id, '', 'j' .. id, '')
else
  return ''
end

if redis.call('HEXISTS', registry, 's' .. id .. writer) == 0 then
  -- Behind the taking off that it did not know of, a join that comes late would let pass what was sent before.
  local times = redis.call('HGET', registry, 't' .. id)
  if times and ARGV[10] ~= id .. times then return 0 end
  local joined = redis.call('HGET', registry, 'j' .. id)
  redis.call('HSET', registry, 'j' .. id, joined .. writer, 's' .. id .. writer, ARGV[9])
  if take_off(id, seen(writer, tonumber(ARGV[11]))) then is_changed = true end
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
for i = 12, #ARGV do
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
