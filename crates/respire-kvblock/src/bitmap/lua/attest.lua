-- Makes the registry where there is none, notices that the server may have lost writes, and confirms what is complete.
--   ARGV: a generation, a nonce and an epoch that may be needed; the writer; its incarnations, each with its last write
--   that was acknowledged and the generation in which it was last known to have joined.
-- The incarnations that were found incomplete here, in one string, and all of the registry.
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local second = string.match(redis.call('INFO', 'replication'), 'master_replid2:(%x+)') or '0'
if string.find(second, '^0+$') then second = '0' end

local gen = redis.call('HGET', registry, 'gen')
if not gen then
  if redis.call('EXISTS', registry) == 1 then
    return redis.error_reply('WRONGTYPE the registry of the index is something else')
  end
  gen = ARGV[1]
  redis.call('HSET', registry, 'epoch', ARGV[3], 'gen', gen, 'nonce', ARGV[2], 'version', 1,
    'server', server .. ' ' .. second, 'next', 0, 'free', '')
else
  local run, was = string.match(redis.call('HGET', registry, 'server'), '^(%x+) (%x+)$')
  if run ~= server or (second ~= '0' and second ~= was) then
    gen = ARGV[1]
    redis.call('HSET', registry, 'gen', gen, 'server', server .. ' ' .. second)
    changed(ARGV[2])
  end
end

local lost, is_changed = {}, false
for i = 5, #ARGV, 3 do
  local id = ARGV[i]
  local record = redis.call('HGET', registry, 'i' .. id)
  local last = redis.call('HGET', registry, 's' .. id .. ARGV[4])
  -- Without the number of its last write it was taken off, if that was in this generation. Else not even its joining may be
  -- there any more.
  local is_off = not last and ARGV[i + 2] == gen
  if record and not is_off and (string.sub(record, 1, 16) ~= gen or not last) then
    local alone = redis.call('HGET', registry, 'j' .. id) == ARGV[4]
    if alone and tonumber(last) >= tonumber(ARGV[i + 1]) then
      redis.call('HSET', registry, 'i' .. id, gen .. string.sub(record, 17))
    else
      if alone then lost[#lost + 1] = id end
      retire(id)
    end
    is_changed = true
  end
end
if is_changed then changed(ARGV[2]) end

local answer = redis.call('HGETALL', registry)
table.insert(answer, 1, table.concat(lost))
return answer
