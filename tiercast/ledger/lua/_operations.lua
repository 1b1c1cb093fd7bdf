-- Operations: bulk requests as objects, each a hash and a member of the lane `operations/all`; needs _common, _audit and
-- _verbs. Touches op:, ops, op_touched:, due:, held:, lease: and expiries: of the lane; audit.

local OPERATIONS = 'operations/all'
local OPERATION_TTL = 30 * 86400  -- s that an operation is kept once it has ended
local MOST_WAITING = 100          -- operations that wait or are at work
local MOST_KEPT = 1000            -- operations that are kept

local ENDED_STATES = { done = true, cancelled = true, stopped = true }

local function op_key(op) return P .. 'op:' .. op end

local function release_operation(op)
  call('HDEL', P .. 'lease:' .. OPERATIONS, op)
  call('ZREM', P .. 'held:' .. OPERATIONS, op)
end

-- An operation ends: in its audit entry stands what became of it. Who holds it finds out with its next step.
local function end_operation(op, state, reason)
  local key = op_key(op)
  local f = call('HMGET', key, 'verb', 'by', 'from', 'address', 'why', 'subject', 'done', 'refused', 'state')
  call('HSET', key, 'state', state, 'reason', reason, 'stopped_in', f[9], 'ended', NOW)
  call('EXPIRE', key, OPERATION_TTL)
  call('EXPIRE', P .. 'op_touched:' .. op, OPERATION_TTL)
  call('ZREM', P .. 'due:' .. OPERATIONS, op)
  forget_expiries(OPERATIONS, op)
  audit({ verb = f[1], by = f[2], from = f[3], address = f[4], why = f[5], subject = f[6], op = op, request = op,
    part = 2 }, tonumber(f[7] or 0), tonumber(f[8] or 0), reason ~= '' and state .. ': ' .. reason or state)
end

-- Let go of operations that have expired, and of the oldest ended ones where there are too many.
local function forget_old_operations()
  local count = call('ZCARD', P .. 'ops')
  for _, op in ipairs(call('ZRANGE', P .. 'ops', 0, 99)) do
    local state = call('HGET', op_key(op), 'state')
    if not state or (count > MOST_KEPT and ENDED_STATES[state]) then
      call('ZREM', P .. 'ops', op)
      call('DEL', op_key(op), P .. 'op_touched:' .. op)
      count = count - 1
    end
  end
end

-- begin {op, fields {name: text, ...}, audit}: the same request again finds it begun.
function verbs.begin(m)
  local key = op_key(m.op)
  if call('EXISTS', key) == 1 then return { 'ok', call('HGET', key, 'state') } end
  local waiting = call('ZCARD', P .. 'due:' .. OPERATIONS) + call('ZCARD', P .. 'held:' .. OPERATIONS)
  if waiting >= MOST_WAITING then
    return { 'no', waiting .. ' operations wait or are at work; let some end, or cancel some' }
  end
  forget_old_operations()
  local fields = {}
  for name, text in pairs(m.fields) do
    fields[#fields + 1] = name
    fields[#fields + 1] = text
  end
  call('HSET', key, 'state', 'counting', 'created', NOW, 'cursor', m.fields.start or '', unpack(fields))
  call('ZADD', P .. 'ops', NOW, m.op)
  owe(OPERATIONS, m.op)
  audit(m.audit, 0, 0, 'begun')
  return { 'ok', 'counting' }
end

-- cancel {op}: what was changed stays so, and nothing more is.
function verbs.cancel(m)
  local state = call('HGET', op_key(m.op), 'state')
  if not state then return { 'no', 'there is no such operation' } end
  if ENDED_STATES[state] then return { 'no', 'it is ' .. state } end
  end_operation(m.op, 'cancelled', '')
  return { 'ok', 'cancelled' }
end

-- continue {op}: one that was stopped goes on; what was tried counts as tried.
function verbs.continue(m)
  local key = op_key(m.op)
  local f = call('HMGET', key, 'state', 'stopped_in')
  if not f[1] then return { 'no', 'there is no such operation' } end
  if f[1] ~= 'stopped' then return { 'no', 'it is ' .. f[1] .. ', not stopped' } end
  local state = f[2] == 'counting' and 'counting' or 'running'
  call('HSET', key, 'state', state)
  call('HDEL', key, 'reason', 'stopped_in', 'ended')
  call('PERSIST', key)
  call('PERSIST', P .. 'op_touched:' .. m.op)
  owe(OPERATIONS, m.op)
  return { 'ok', state }
end
