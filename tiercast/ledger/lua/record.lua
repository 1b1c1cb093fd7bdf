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
  call('HSET', P .. 'meta', 'room', int(T) .. ' ' .. (answer and '1' or '0'))
  return answer
end

if not has_room() then return { 'FULL memory' } end

local lanes, counts = {}, {}
for i = 3, #ARGV, 4 do
  local lane = 'deliveries/' .. ARGV[i]
  if not counts[lane] then
    counts[lane] = call('ZCARD', P .. 'due:' .. lane) + call('ZCARD', P .. 'held:' .. lane)
    lanes[#lanes + 1] = lane
  end
  counts[lane] = counts[lane] + 1
  if counts[lane] > most_owed then return { 'FULL owed' } end
end

for i = 3, #ARGV, 4 do
  local source, delivery, body, due = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if call('EXISTS', P .. 'd:' .. delivery) == 0 and call('SET', P .. 'b:' .. delivery, body, 'NX') then
    local at = due == '' and T or math.min(T, tonumber(due))
    call('ZADD', P .. 'due:deliveries/' .. source, int(at), delivery)
  end
end
for _, lane in ipairs(lanes) do woken[lane] = true end
return { 'OK', ring_woken() }
