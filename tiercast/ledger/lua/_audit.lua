-- Who changed what, written by the script that makes the change; needs _common. Touches audit.

local AUDIT_MS = 400 * 86400000  -- ms that an entry is kept

-- Write an entry; without `entry` (a test, or a change that no operator asked for) none.
--   entry {verb, by, from, address, subject, why, op, request, part}: what the request says of itself (control/audit.py)
--   done, refused: how many members were changed, and left alone; result: what came of it
local function audit(entry, done, refused, result)
  if not entry then return end
  local fields = { 'at', NOW, 'count', int(done), 'refused', int(refused) }
  for _, name in ipairs({ 'verb', 'by', 'from', 'address', 'subject', 'why', 'op', 'request', 'part' }) do
    local value = entry[name]
    if value and value ~= '' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  if result ~= '' then
    fields[#fields + 1] = 'result'
    fields[#fields + 1] = result
  end
  call('XADD', P .. 'audit', 'MINID', int(math.max(0, T - AUDIT_MS)), '*', unpack(fields))
end
