#!lua flags=allow-oom
-- Let go of deliveries that are in the history by now, then claim the next that are to be filed, in one step.
-- Keys: all of _common, _parking, _leaving and _claim, of the lane `history`; rewrite, rounds; due: and lane: of `lanes`.
-- ARGV[1]: {keep, keep_dead, filed: [[delivery, token, round], ...], released: [[delivery, token, ms until due again or
--   absent], ...], outage or hold or absent, claim: {...} or absent, lanes: [...]}
--   filed: their rows, of that round, are durable in the history.
--   outage: why the history cannot be reached; hold: {ms, cause, reason}.
--   lanes: those whose late work goes before filing.
-- Returns {[delivery that left or was filed, ...], bells, [[delivery, body, [field, value, ...], [[job, [field, value,
--   ...]], ...]], ...], more, isolated, ms that the lane is still on hold}.
--COMMON
--PARKING
--LEAVING
--CLAIM

local LATE = 1000             -- ms that work of another lane is overdue, for which filing stands back
local STAND_BACK = 1000       -- ms until the next look at whether it still is

local request = cjson.decode(ARGV[1])
local lane = HISTORY
local lane_key = P .. 'lane:' .. lane
KEEP, KEEP_DEAD = request.keep, request.keep_dead

-- A job that is dead and may have had its effect keeps the places of its groups until an operator decides.
local function keeps_place(f) return f[1] == 'dead' and f[2] and (f[3] or f[4]) end

local doomed, gone = {}, { ix_d = {}, ix_j = {} }

local function note_gone(index, state, member)
  local members = gone[index][state] or {}
  gone[index][state] = members
  members[#members + 1] = member
end

-- Let go of a delivery with its event and jobs; not of one with a job that keeps a place.
local function let_go(delivery, round)
  local key = P .. 'd:' .. delivery
  local f = call('HMGET', key, 's', 'src', 'e', 'j', 'c', 'rd')
  if not f[1] then return end
  if tonumber(f[6] or 0) ~= round then return file_at(delivery, T + FILE_AFTER) end
  local jobs, states, keeps = jobs_of(f[2], f[3], f[4]), {}, false
  for i, job in ipairs(jobs) do
    local g = call('HMGET', P .. 'j:' .. job, 's', 'm', 'og', 'cg')
    states[i] = g[1]
    keeps = keeps or keeps_place(g)
  end
  if keeps then
    call('ZADD', P .. 'trim', int(T + KEEP_DEAD), delivery)
    return
  end
  for i, job in ipairs(jobs) do
    if INDEXED[states[i]] then note_gone('ix_j', states[i], job) end
    doomed[#doomed + 1] = P .. 'j:' .. job
  end
  note_gone('ix_d', f[1], delivery)
  if f[5] then forget_customer(delivery, f[5]) end
  doomed[#doomed + 1] = key
  doomed[#doomed + 1] = P .. 'b:' .. delivery
  note_round(delivery, f[6])
end

local function flush_gone()
  for state, members in pairs(gone.ix_d) do call_many('ZREM', P .. 'ix:d:' .. state, members) end
  for state, members in pairs(gone.ix_j) do call_many('ZREM', P .. 'ix:j:' .. state, members) end
  for i = 1, #doomed, 4000 do call('DEL', unpack(doomed, i, math.min(i + 3999, #doomed))) end
  if #doomed > 0 then call('HSETNX', P .. 'rewrite', 'left', NOW) end
end

-- The history answered: an outage is over.
local function note_answer()
  if not call('HGET', lane_key, 'probe') then return end
  if call('HGET', lane_key, 'cause') == 'outage' then end_hold(lane) end
  call('HDEL', lane_key, 'probe', 'outage_reason')
  woken[lane] = true
end

-- The history cannot be reached: nothing more is claimed but single deliveries, as probes.
local function note_outage(reason)
  call('HSET', lane_key, 'outage_reason', reason)
  if not call('HGET', lane_key, 'probe') then hold_for_probe(lane, 0) end
end

-- Whether work that is late and could start is owed in other lanes.
local function any_late()
  for _, other in ipairs(request.lanes) do
    local head = call('ZRANGE', P .. 'due:' .. other, 0, 0, 'WITHSCORES')
    if head[2] and tonumber(head[2]) <= T - LATE and is_open(other, lane_state(other)) then return true end
  end
  return false
end

-- Whether the server's memory is below half of its limit, or of the machine's where it has none.
local function is_roomy()
  local info = call('INFO', 'memory')
  local limit = tonumber(string.match(info, 'maxmemory:(%d+)') or 0)
  if limit == 0 then limit = tonumber(string.match(info, 'total_system_memory:(%d+)') or 0) end
  return tonumber(string.match(info, 'used_memory:(%d+)')) < limit / 2
end

-- Nothing buries what is to be filed: it stays until it is in the history.
on_expiry = function() return true end

-- What a worker needs of each delivery that it has claimed.
local function contents(deliveries)
  local bodies, rows = {}, {}
  for i, delivery in ipairs(deliveries) do bodies[i] = P .. 'b:' .. delivery end
  bodies = get_many(bodies)
  for i, delivery in ipairs(deliveries) do
    local f = call('HGETALL', P .. 'd:' .. delivery)
    local source, event, names
    for k = 1, #f, 2 do
      if f[k] == 'src' then source = f[k + 1] elseif f[k] == 'e' then event = f[k + 1]
      elseif f[k] == 'j' then names = f[k + 1] end
    end
    local jobs = jobs_of(source, event, names)
    for k, job in ipairs(jobs) do jobs[k] = { job, call('HGETALL', P .. 'j:' .. job) } end
    rows[i] = { delivery, bodies[i], f, jobs }
  end
  return rows
end

local settled, members = {}, {}
for _, list in ipairs({ request.filed or {}, request.released or {} }) do
  for _, each in ipairs(list) do members[#members + 1] = each[1] end
end
look_up_leases(lane, members)
for _, each in ipairs(request.filed or {}) do
  if close_lease(each[1], each[2]) then
    forget_expiries(lane, each[1])
    let_go(each[1], each[3])
    settled[#settled + 1] = each[1]
  end
end
for _, each in ipairs(request.released or {}) do
  local due = close_lease(each[1], each[2])
  if due then file_at(each[1], each[3] and T + each[3] or due) end
end
flush_closed_leases(lane)
flush_gone()
flush_to_file()
if #settled > 0 then note_answer() end
if request.outage then note_outage(request.outage) end
if request.hold then hold(lane, T + request.hold[1], request.hold[2], request.hold[3]) end

local claimed, more, isolated = {}, 0, 0
if request.claim then
  if request.claim.n > 0 and any_late() and is_roomy() then
    hold(lane, T + STAND_BACK, 'late', 'work that is late goes first')
  end
  local found, _
  found, _, more, isolated = take(lane, request.claim)
  claimed = contents(found)
else
  ring_if_due(lane)
end
ring_woken()
local hold_until = tonumber(call('HGET', lane_key, 'hold_until') or 0)
return { settled, bells, claimed, more, isolated, int(math.max(0, hold_until - T)) }
