#!lua flags=allow-oom
-- What an operator asks for, of up to 100 members in one step, with the audit entry of it.
-- Keys: all of _common, _parking, _verbs, _operations and _audit.
-- ARGV[1]: {verb, keep, keep_dead, members: [{...}, ...] as in _verbs and _operations,
--   audit: {...} as in _audit or absent}
-- Returns {[["ok", state] or ["no", why], ...] for each member, bells}.
--COMMON
--PARKING
--AUDIT
--VERBS
--OPERATIONS

local request = cjson.decode(ARGV[1])
KEEP, KEEP_DEAD = request.keep, request.keep_dead

local answers, done = {}, 0
for i, member in ipairs(request.members) do
  local answer = carry_out(request.verb, member)
  if answer[1] == 'ok' then done = done + 1 end
  answers[i] = { answer[1], answer[2] }
end
flush_families()
audit(request.audit, done, #answers - done, #answers == 1 and answers[1][2] or '')
return { answers, ring_woken() }
