-- Removes keys of earlier registries, if they hold what an index writes there: a name may be anybody's.
--   KEYS: the keys. ARGV: which byte of a name says what the key is for. How many were removed.
local function is_ours(key, sign)
  local size = redis.pcall('STRLEN', key)
  if type(size) ~= 'number' or size == 0 then return false end
  if sign == 'e' then return size % 8 == 0 end
  local form = string.byte(redis.call('GETRANGE', key, 0, 0))
  return form == 0 or form == 1 and size % 2 == 1
end

local count, sign_at = 0, tonumber(ARGV[1])
for k = 1, #KEYS do
  if is_ours(KEYS[k], string.sub(KEYS[k], sign_at, sign_at)) then
    count = count + redis.call('UNLINK', KEYS[k])
  end
end
return count
