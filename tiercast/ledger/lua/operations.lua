#!lua flags=allow-oom
-- Claim operations of their lane.
-- Keys: all of _common, _claim and _operations. ARGV[1]: {keep, keep_dead, claim: {...}}
-- Returns {[[operation, token's expired leases, [field, value, ...]], ...], bells, more, isolated}.
--COMMON
--PARKING
--CLAIM
--AUDIT
--VERBS
--OPERATIONS

local request = cjson.decode(ARGV[1])
KEEP, KEEP_DEAD = request.keep, request.keep_dead

on_expiry = function(_, op, count)
  local state = call('HGET', op_key(op), 'state')
  if not state or ENDED_STATES[state] then return false end
  if count < POISON then return true end
  end_operation(op, 'stopped', 'poison: ' .. count .. ' leases ended while it was worked on')
  return false
end

local members, _, more, isolated = take(OPERATIONS, request.claim)
local rows = {}
for i, op in ipairs(members) do
  rows[i] = { op, expiries_of(OPERATIONS, op), call('HGETALL', op_key(op)) }
end
ring_woken()
return { rows, bells, more, isolated }
