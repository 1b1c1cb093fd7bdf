#!lua flags=allow-oom
-- Lengthen the leases of members that are still held under their tokens.
-- Keys: held:<lane>, lease:<lane>. ARGV: lane, lease (ms), then member, token again and again.
-- Returns 1 for each member that is still held, else 0. A lease that has ended is not lengthened.
--COMMON

local lane, lease = ARGV[1], tonumber(ARGV[2])
local answer = {}
for i = 3, #ARGV, 2 do
  local member, token = ARGV[i], ARGV[i + 1]
  local text = call('HGET', P .. 'lease:' .. lane, member)
  local until_ms = call('ZSCORE', P .. 'held:' .. lane, member)
  local ours = text and until_ms and tonumber(until_ms) > T and string.sub(text, 1, #token + 1) == token .. ' '
  if ours then call('ZADD', P .. 'held:' .. lane, int(T + lease), member) end
  answer[#answer + 1] = ours and 1 or 0
end
return answer
