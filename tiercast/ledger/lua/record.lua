#!lua
-- Record deliveries as owed. Repeating it records nothing twice.
-- Keys: b:<delivery>, due:deliveries/<source>, lanes, lane:, held:, room; reads d:<delivery>, meta (room).
-- ARGV: most owed, share of maxmemory, then source, delivery, body, due (ms, or empty for now), again and again.
-- Refuses as a whole, with "FULL <reason>", where a limit is reached. No allow-oom here: a server over its
-- maxmemory refuses it too. Beyond the share of maxmemory half of the rest is kept for all sources in equal parts, so that
-- one that has filled the share does not shut out the others; a part is whole again once the memory is within the share.
--COMMON

local most_owed, share = tonumber(ARGV[1]), tonumber(ARGV[2])

-- What a delivery takes beside its body, once it is planned with some jobs.
local OVERHEAD = 4096

local FULL, WITHIN, BEYOND = '0', '1', '2'

-- How many lanes share what is kept: those that ever held deliveries, and one that may come.
local function count_sources()
  local count = 1
  for _, lane in ipairs(call('SMEMBERS', P .. 'lanes')) do
    if string.sub(lane, 1, 11) == 'deliveries/' then count = count + 1 end
  end
  return count
end

-- The level of the server's memory, and beyond the share the bytes that each source may store; looked at 5 times a
-- second at the most.
local function look_at_memory()
  local room = call('HGET', P .. 'meta', 'room')
  if room then
    local at, level, part = string.match(room, '^(%d+) (%d) (%d+)$')
    if at and T - tonumber(at) < 200 and T >= tonumber(at) then return level, tonumber(part) end
  end
  local info = call('INFO', 'memory')
  local used = tonumber(string.match(info, 'used_memory:(%d+)'))
  local limit = tonumber(string.match(info, 'maxmemory:(%d+)'))
  local level, part, kept = WITHIN, 0, limit * (1 - share) / 2
  if limit > 0 and used >= limit * share then
    level, part = BEYOND, math.floor(kept / count_sources())
    if used >= limit * share + kept then level = FULL end
  elseif room and string.find(room, ' [02] ') then
    call('DEL', P .. 'room')
  end
  call('HSET', P .. 'meta', 'room', NOW .. ' ' .. level .. ' ' .. int(part))
  return level, part
end

local level, part = look_at_memory()
if level == FULL then return { 'FULL memory' } end

local counts, sizes, deliveries, bodies = {}, {}, {}, {}
for i = 3, #ARGV, 4 do
  local lane, delivery = 'deliveries/' .. ARGV[i], ARGV[i + 1]
  counts[lane] = (counts[lane] or 0) + 1
  if level == BEYOND then sizes[lane] = (sizes[lane] or 0) + #ARGV[i + 2] + OVERHEAD end
  deliveries[#deliveries + 1] = P .. 'd:' .. delivery
  bodies[#bodies + 1] = P .. 'b:' .. delivery
  bodies[#bodies + 1] = ARGV[i + 2]
end
for lane, count in pairs(counts) do
  local owing = call('ZCARD', P .. 'due:' .. lane) + call('ZCARD', P .. 'held:' .. lane)
  if owing + count > most_owed then return { 'FULL owed' } end
  woken[lane] = true
end
for lane, size in pairs(sizes) do
  if tonumber(call('HGET', P .. 'room', lane) or 0) + size > part then return { 'FULL memory' } end
end
for lane, size in pairs(sizes) do call('HINCRBY', P .. 'room', lane, size) end

-- As a rule all are new: then two commands do what two for each would, and commands are what costs here.
local all_new = #bodies <= 4000 and not any_exists(deliveries) and call('MSETNX', unpack(bodies)) == 1
for i = 3, #ARGV, 4 do
  local delivery, due = ARGV[i + 1], ARGV[i + 3]
  local is_new = all_new
    or (call('EXISTS', P .. 'd:' .. delivery) == 0 and call('SET', P .. 'b:' .. delivery, ARGV[i + 2], 'NX'))
  if is_new then owe('deliveries/' .. ARGV[i], delivery, due ~= '' and math.min(T, tonumber(due)) or T) end
end
return { 'OK', ring_woken() }
