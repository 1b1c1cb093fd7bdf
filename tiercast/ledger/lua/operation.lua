#!lua flags=allow-oom
-- One step of an operation: up to 100 members, the tallies and where to go on, all or nothing. So a process that dies
-- repeats nothing, and nothing is counted twice.
-- Keys: all of _operations and _verbs; j: and d: of the members.
-- ARGV[1]: {op, token, lease (ms), keep, keep_dead, state and at (where the caller believes the operation to be: its state
--   and cursor), cursor (where it is then), members: [{... as in _verbs, was state or absent, e error pattern}, ...],
--   try 1 where these are tried first, set: {field: text, ...}, next state or absent, reason, wait ms or absent (the
--   operation is handed back until then)}.
-- Returns {what, [field, value, ...] of the operation, operations held, bells}: what is `ok`, `ended` (it has ended: it was
--   cancelled, say), `paused` (its lane is), `stale` (it is elsewhere; look at the fields) or `lost` (the lease is).
-- A step of an operation that is not held under the token, or not where the caller believes, changes nothing.
--COMMON
--PARKING
--AUDIT
--VERBS
--OPERATIONS

local request = cjson.decode(ARGV[1])
KEEP, KEEP_DEAD = request.keep, request.keep_dead

local REASONS, NAMED = 10, 3   -- reasons that are kept of members left alone, and names of each
local MOST_TOUCHED = 100000    -- names kept of members that were changed

local op, key = request.op, op_key(request.op)
local f = call('HMGET', key, 'state', 'cursor', 'verb', 'created', 'done', 'refusals', 'script')

local function answer(what)
  flush_owed()
  flush_families()
  return { what, call('HGETALL', key), call('ZCARD', P .. 'held:' .. OPERATIONS), ring_woken() }
end

local lease = call('HGET', P .. 'lease:' .. OPERATIONS, op)
if not lease or string.sub(lease, 1, #request.token + 1) ~= request.token .. ' ' then return answer('lost') end
if not f[1] or ENDED_STATES[f[1]] then
  release_operation(op)
  return answer('ended')
end
if lane_state(OPERATIONS).paused then
  release_operation(op)
  call('ZADD', P .. 'due:' .. OPERATIONS, NOW, op)
  return answer('paused')
end
if f[1] ~= request.state or (f[2] or '') ~= request.at then return answer('stale') end

-- Why a member is not the one that was chosen: it has changed since. nil where it is, or where it was named.
local function changed(m)
  if not m.was then return nil end
  local g
  if m.job then
    g = call('HMGET', P .. 'j:' .. m.job, 's', 'z')
  else
    g = call('HMGET', P .. 'd:' .. m.delivery, 's', 'z', 'again')
    if g[3] then g[1] = 'queued' end
  end
  if g[1] and (g[1] ~= m.was or tonumber(g[2] or 0) > tonumber(f[4])) then
    return 'it has changed since the operation began; it is ' .. g[1]
  end
  return nil
end

local refusals, refused = f[6] and cjson.decode(f[6]) or {}, 0

-- Count a member that is left alone: by what stands before its remedy, as commands do.
local function refuse(name, text)
  refused = refused + 1
  local reason = string.match(text, '^(.-); ') or text
  local found
  for _, one in ipairs(refusals) do
    if one.reason == reason then found = one end
  end
  if not found and #refusals >= REASONS then
    found = refusals[REASONS + 1] or { reason = 'other reasons', count = 0, names = {} }
    refusals[REASONS + 1] = found
  elseif not found then
    found = { reason = reason, count = 0, names = {} }
    refusals[#refusals + 1] = found
  end
  found.count = found.count + 1
  if #found.names < NAMED then found.names[#found.names + 1] = name end
end

local touched, tried, done = {}, {}, 0
for _, m in ipairs(request.members) do
  local name, text, watch = m.job or m.delivery, changed(m), nil
  if not text then
    local said
    said, watch = carry_out(f[7], m)
    if said[1] ~= 'ok' then text, watch = said[2], nil end
  end
  if text then
    refuse(name, text)
  else
    done = done + 1
    touched[#touched + 1] = watch
    call('HSET', P .. (m.job and 'j:' or 'd:') .. watch, 'op', op)
  end
  if request.try then tried[#tried + 1] = { name = name, watch = watch, error = m.e } end
end

if tonumber(f[5] or 0) < MOST_TOUCHED then call_many('RPUSH', P .. 'op_touched:' .. op, touched) end
if done > 0 then call('HINCRBY', key, 'done', done) end
if refused > 0 then
  call('HINCRBY', key, 'refused', refused)
  call('HSET', key, 'refusals', cjson.encode(refusals))
end
if #request.members > 0 then call('HINCRBY', key, 'seen', #request.members) end
if request.try then call('HSET', key, 'tried', cjson.encode(tried), 'tried_at', NOW) end
call('HSET', key, 'cursor', request.cursor, 'moved', NOW)
for name, text in pairs(request.set or {}) do call('HSET', key, name, text) end
forget_expiries(OPERATIONS, op)

if request.next and ENDED_STATES[request.next] then
  end_operation(op, request.next, request.reason or '')
  release_operation(op)
elseif request.wait then
  if request.next then call('HSET', key, 'state', request.next) end
  release_operation(op)
  call('ZADD', P .. 'due:' .. OPERATIONS, int(T + request.wait), op)
  if request.wait == 0 then woken[OPERATIONS] = true end
else
  if request.next then call('HSET', key, 'state', request.next) end
  call('ZADD', P .. 'held:' .. OPERATIONS, int(T + request.lease), op)
end
return answer('ok')
