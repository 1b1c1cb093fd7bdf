#!lua
-- Record deliveries as owed. Repeating it records nothing twice.
-- Keys: b:<delivery>, due:deliveries/<source>, lanes, lane:, held:; reads d:<delivery>, meta (room).
-- ARGV: most owed, share of maxmemory, then source, delivery, body, due (ms, or empty for now), again and again.
-- Refuses as a whole, with "FULL <reason>", where a limit is reached. No allow-oom here: a server over its
-- maxmemory refuses it too.
--COMMON

local most_owed, share = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Whether the server's memory is within our share; looked at 5 times a second at the most.
local function has_room()
  local room = call('HGET', P .. 'meta', 'room')
  if room then
    local at, answer = string.match(room, '^(%d+) (%d)$')
    if T - tonumber(at) < 200 and T >= tonumber(at) then return answer == '1' end
  end
  local info = call('INFO', 'memory')
  local used = tonumber(string.match(info, 'used_memory:(%d+)'))
  local limit = tonumber(string.match(info, 'maxmemory:(%d+)'))
  local answer = limit == 0 or used < limit * share
  call('HSET', P .. 'meta', 'room', NOW .. ' ' .. (answer and '1' or '0'))
  return answer
end

if not has_room() then return { 'FULL memory' } end

local counts, deliveries, bodies = {}, {}, {}
for i = 3, #ARGV, 4 do
  local lane, delivery = 'deliveries/' .. ARGV[i], ARGV[i + 1]
  counts[lane] = (counts[lane] or 0) + 1
  deliveries[#deliveries + 1] = P .. 'd:' .. delivery
  bodies[#bodies + 1] = P .. 'b:' .. delivery
  bodies[#bodies + 1] = ARGV[i + 2]
end
for lane, count in pairs(counts) do
  local owing = call('ZCARD', P .. 'due:' .. lane) + call('ZCARD', P .. 'held:' .. lane)
  if owing + count > most_owed then return { 'FULL owed' } end
  woken[lane] = true
end

-- As a rule all are new: then two commands do what two for each would, and commands are what costs here.
local all_new = #bodies <= 4000 and not any_exists(deliveries) and call('MSETNX', unpack(bodies)) == 1
for i = 3, #ARGV, 4 do
  local delivery, due = ARGV[i + 1], ARGV[i + 3]
  local is_new = all_new
    or (call('EXISTS', P .. 'd:' .. delivery) == 0 and call('SET', P .. 'b:' .. delivery, ARGV[i + 2], 'NX'))
  if is_new then owe('deliveries/' .. ARGV[i], delivery, due ~= '' and math.min(T, tonumber(due)) or T) end
end
return { 'OK', ring_woken() }
