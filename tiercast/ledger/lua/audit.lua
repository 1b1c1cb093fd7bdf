#!lua flags=allow-oom
-- The audit log by itself: an entry of a change that is made elsewhere, or entries made anew without a person's name.
-- Keys: all of _audit. ARGV[1]: {entry: {...} as in _audit, count, refused, result}
--   or {scrub: {"<id of an entry>": {field: text, ...}, ...}}: these fields of these entries get these texts.
-- Returns how many entries were written or changed.
--COMMON
--AUDIT

local request = cjson.decode(ARGV[1])
if request.entry then
  audit(request.entry, request.count, request.refused, request.result)
  return 1
end

-- A stream's entry cannot be changed, so the stream is written anew, in this one step.
local key, fresh, changed = P .. 'audit', P .. 'audit_fresh', 0
call('DEL', fresh)
for _, found in ipairs(call('XRANGE', key, '-', '+')) do
  local id, fields = found[1], found[2]
  local texts = request.scrub[id]
  if texts then
    changed = changed + 1
    for i = 1, #fields, 2 do fields[i + 1] = texts[fields[i]] or fields[i + 1] end
  end
  call('XADD', fresh, id, unpack(fields))
end
if changed > 0 then call('RENAME', fresh, key) else call('DEL', fresh) end
return changed
