#!lua flags=allow-oom
-- Settle jobs of one action, then claim the next, in one step.
-- Keys: all of _common, _parking and _claim; reads b: and d: of the claimed jobs' deliveries; rate:, answered:.
-- ARGV[1]: {lane, keep, keep_dead, learn or absent (for which limit or action a rate is learnt), settle: [...],
--   claim: {...} or absent}; an outcome is
--   {k job, t token, o done|later|skipped|dead|uncertain|released, r text, w ms until due again,
--    m 1 effect possible | 0 known not to be, du duration ms of the attempt,
--    y 1 the vendor answered (a job that is done says so anyway),
--    c {code, reason, most}: of a dead job, the vendor's code; when so many have died of it with no success between, the
--      lane is held with that reason, and what fails in the same way is released,
--    x outage (the vendor cannot be reached) | rate (it refused too many calls and named no time),
--    h {ms, cause, reason, limit or absent}: hold the limit, or else the lane}.
-- Returns {[settled job, ...], bells, [[job, expired leases, delay, [attempts, attempts before retry, 1 where an effect
--   is possible, delivery, once digest, ms when an effect became possible, ms that it has been failing],
--   [head of the event, at], body], ...], more, isolated, now in ms,
--   ms that the lane is still on hold, but for its rate}; what is not there is null.
--COMMON
--PARKING
--CLAIM

local OUTAGE_JOBS = 3          -- different jobs that must meet an outage, with no success between, to hold the lane
local CODES = 8                -- vendor codes that jobs of a lane have died of, of which the number is kept
local ALIKE_HOLD = 300000      -- ms until a job probes whether what others have died of was mended
local RATE_CHANGE = 1000       -- ms between two reductions of a learnt rate
local RATE_TTL = 3600000       -- ms that a learnt rate outlives the last refusal
-- What a refusal leaves of a learnt rate at least, by whether it was known before what the vendor refuses.
local LEAST_LEFT = { [true] = 0.7, [false] = 0.5 }

local request = cjson.decode(ARGV[1])
local lane = request.lane
local lane_key = P .. 'lane:' .. lane
KEEP, KEEP_DEAD = request.keep, request.keep_dead

local health = nil

-- What is on record of the lane's vendor: probe (number of the next probe during an outage), seen (up to three jobs
-- that have met one), total (ms that the lane has been on hold, the present hold included), doubt and alike (_claim.lua),
-- read once.
local function vendor_health()
  if not health then
    local f = call('HMGET', lane_key, 'probe', 'outage', 'hold_total', 'hold_until', 'hold_from', 'paused', 'doubt',
      'alike')
    local total = tonumber(f[3] or 0) + held_for(f[4], f[5], f[6])
    health = { probe = tonumber(f[1]), seen = {}, count = 0, total = total }
    health.doubt, health.alike = f[7] and cjson.decode(f[7]), f[8] and cjson.decode(f[8])
    for job in string.gmatch(f[2] or '', '[^\n]+') do
      health.seen[job], health.count = true, health.count + 1
    end
  end
  return health
end

-- A probe has succeeded: end a hold of that cause, and have the lane worked on.
local function go_on_after(cause)
  if call('HGET', lane_key, 'cause') == cause then end_hold(lane) end
  woken[lane] = true
  -- The drain that claimed the probe was left with nothing more to claim: it may not come back.
  call('HDEL', lane_key, 'drained')
end

-- The vendor answered: an outage is over.
local function note_answer()
  local known = vendor_health()
  if not known.probe and known.count == 0 then return end
  if known.probe then go_on_after('outage') end
  call('HDEL', lane_key, 'probe', 'outage', 'outage_reason')
  health = nil
end

local function end_doubt(known)
  if not known.doubt then return end
  go_on_after(known.doubt.cause)
  call('HDEL', lane_key, 'doubt')
  health = nil
end

-- A job was done that began at that time: credential and settings are right, and what jobs have died of is their own.
-- One that began before the doubt says nothing of it.
local function note_success(began)
  local known = vendor_health()
  if known.doubt and began < known.doubt.at then return end
  end_doubt(known)
  if known.alike then
    call('HDEL', lane_key, 'alike')
    health = nil
  end
end

-- Hold the lane until an operator or a probe shows that credential and settings are right.
local function doubt(ms, cause, reason, code)
  call('HSET', lane_key, 'doubt', cjson.encode({ ms = ms, cause = cause, reason = reason, code = code, at = T }))
  hold(lane, T + ms, cause, reason)
  health = nil
end

local function size_of(counts)
  local size = 0
  for _ in pairs(counts) do size = size + 1 end
  return size
end

-- A job is about to die of a code of the vendor's. Returns whether so many have died of it, with no success between,
-- that the cause is a setting: then it is released, and the lane held. The last that may die holds the lane already.
local function dies_like_others(began, code, reason, most)
  local known = vendor_health()
  if known.doubt and known.doubt.code == code then return true end
  if not known.doubt or began >= known.doubt.at then end_doubt(known) end  -- the vendor has judged this job
  local counts = known.alike or {}
  if not counts[code] and size_of(counts) >= CODES then counts = {} end
  local died = counts[code] or 0
  if died < most then
    counts[code] = died + 1
    call('HSET', lane_key, 'alike', cjson.encode(counts))
    health = nil
  end
  if died + 1 >= most then doubt(ALIKE_HOLD, 'setting', reason, code) end
  return died >= most
end

-- A job met an outage. Returns whether the lane is held for it: then it costs the job nothing.
local function note_outage(job, reason)
  local known = vendor_health()
  if known.probe then return true end
  if not known.seen[job] then
    known.seen[job], known.count = true, known.count + 1
    local names = {}
    for name in pairs(known.seen) do names[#names + 1] = name end
    call('HSET', lane_key, 'outage', table.concat(names, '\n'))
  end
  if known.count < OUTAGE_JOBS then return false end
  known.probe = 0
  call('HSET', lane_key, 'outage_reason', reason or 'the vendor cannot be reached')
  hold_for_probe(lane, 0)
  return true
end

-- Count the jobs that the vendor has answered by the second: what it bears, should it refuse more. All lanes that share a
-- limit count together, since the vendor refuses what is too much of them together.
local function count_answers(count)
  if not request.learn then return end
  local key = P .. 'answered:' .. request.learn
  local f = call('HMGET', key, 'second', 'count', 'before')
  local second, last = math.floor(T / 1000), tonumber(f[1] or 0)
  if last == second then
    call('HINCRBY', key, 'count', count)
  else
    call('HSET', key, 'second', second, 'count', count, 'before', last == second - 1 and f[2] or 0)
    call('PEXPIRE', key, 10000)
  end
end

-- Jobs a second that the vendor has answered lately: in the second before this one, or where none was, in this one.
local function answered_rate()
  local f = call('HMGET', P .. 'answered:' .. request.learn, 'second', 'count', 'before')
  local second, last = math.floor(T / 1000), tonumber(f[1] or 0)
  if last == second - 1 then return tonumber(f[2]) end
  if last ~= second then return 0 end
  local before = tonumber(f[3] or 0)
  return before > 0 and before or tonumber(f[2])
end

-- The vendor refused a call because there were too many, and named no time: learn a rate a little below what it bears.
-- At first that is unknown: what it has answered so far may be no more than what it was asked, or answers are slower than
-- refusals. So the first rate has no ceiling and grows fast, and the second refusal tells. From then on one refusal
-- takes three tenths of the rate at the most.
local function note_refusal()
  local name = request.learn
  if not name then return end
  local key = P .. 'rate:' .. name
  local f = call('HMGET', key, 'at', 'ceiling')
  local at, known = tonumber(f[1] or 0), tonumber(f[2] or 0)
  if T - at < RATE_CHANGE and T >= at then return end
  local rate, answered, ceiling = learnt_rate(name), answered_rate(), 0
  local base = math.max(1, answered)
  if rate then
    ceiling = math.max(LEAST_LEFT[known > 0] * rate, math.min(rate, answered))
    base = ceiling
  end
  call('HSET', key, 'base', math.max(1 / 60, 0.95 * base), 'at', NOW, 'ceiling', ceiling, 'grown', 0, 'limited', NOW)
  call('PEXPIRE', key, RATE_TTL)
end

local function hold_as_asked(wanted)
  local ms, cause, reason, limit = wanted[1], wanted[2], wanted[3], wanted[4]
  if cause == 'credential' or cause == 'setting' then return doubt(ms, cause, reason) end
  if not limit then return hold(lane, T + ms, cause, reason) end
  local key, at = P .. 'limit:' .. limit, T_US + ms * 1000
  if at <= tonumber(call('GET', key) or 0) then return end
  call('SET', key, int(at), 'PX', int(ms + 1000))
  if ms >= 1 then call('SET', P .. 'limit_hold:' .. limit, reason, 'PX', int(ms)) end
end

-- Ms that the lane is still on hold for what its vendor or an operator said. A hold for the rate does not count: the
-- jobs that are claimed have their starts reserved, and to release them would leave those starts unused.
local function held_ms()
  local f = call('HMGET', lane_key, 'hold_until', 'cause')
  return f[1] and f[2] ~= 'rate' and math.max(0, tonumber(f[1]) - T) or 0
end

-- The fields that say since when a job has been failing by itself: `ff`, and how long its lane had been on hold by then.
local function failing_since(job, more)
  if call('HEXISTS', P .. 'j:' .. job, 'ff') == 1 then return end
  for _, value in ipairs({ 'ff', NOW, 'fh', int(vendor_health().total) }) do more[#more + 1] = value end
end

-- Give a job back as if it had not been claimed; what is known of its effect stays on record.
local function release(o, due)
  call('ZADD', P .. 'due:' .. lane, int(due), o.k)
  local fields = {}
  if o.r then fields = { 'r', o.r } end
  if o.m == 1 then
    for _, value in ipairs({ 'm', 1, 'mt', NOW }) do fields[#fields + 1] = value end
  elseif o.m == 0 then
    call('HDEL', P .. 'j:' .. o.k, 'm', 'mt')
  end
  if #fields > 0 then call('HSET', P .. 'j:' .. o.k, unpack(fields)) end
end

local succeeded = nil  -- when the latest began of the jobs that this exchange says are done

local function settle(o)
  local due = close_lease(o.k, o.t)
  if not due then return false end
  if o.h then hold_as_asked(o.h) end
  if o.x == 'rate' then note_refusal() end
  local held = o.x == 'outage' and note_outage(o.k, o.r)
  if o.o == 'dead' and o.c and not succeeded and dies_like_others(T - (o.du or 0), unpack(o.c)) then
    release(o, T)  -- behind the others: the next probe is another job
    return true
  end
  if o.o == 'released' or (held and (o.o == 'later' or o.o == 'dead')) then
    release(o, due)
    return true
  end
  local key = P .. 'j:' .. o.k
  local about = look_up(o.k)
  local effect_possible = about[EFFECT_POSSIBLE] == '1'
  local more = o.du and attempt_fields(o.k, about[TRIES] + 1, int(T - o.du), int(o.du), o.o, o.r) or {}
  if o.m == 1 then
    for _, value in ipairs({ 'm', 1, 'mt', NOW }) do more[#more + 1] = value end
  elseif o.m == 0 and effect_possible then
    call('HDEL', key, 'm', 'mt')
  end
  if o.o == 'later' then
    failing_since(o.k, more)
    if o.r then
      more[#more + 1] = 'r'
      more[#more + 1] = o.r
    end
    if #more > 0 then call('HSET', key, unpack(more)) end
    call('ZADD', P .. 'due:' .. lane, int(T + o.w), o.k)
    return true
  end
  forget_expiries(lane, o.k)
  finish(o.k, o.o, o.r, o.m == 1 or (o.m == nil and effect_possible), about, more)
  return true
end

on_expiry = function(_, job, count)
  local key, lost = P .. 'j:' .. job, 'the worker that held it was lost'
  local n = call('HGET', key, 'n') + 1
  call('HSET', key, 'm', 1, 'mt', NOW, 'r', lost, unpack(attempt_fields(job, n, NOW, '0', 'lost', lost)))
  if count < POISON then return true end
  finish(job, 'dead', 'poison: ' .. count .. ' leases expired while it was performed', true)
  return false
end

-- Ms that a job has been failing by itself, time on hold not counted.
local function failing_ms(since, held_then)
  if not since then return false end
  return int(math.max(0, T - tonumber(since) - (vendor_health().total - tonumber(held_then or 0))))
end

-- What a worker needs of each job that it has claimed.
local function contents(jobs, delays)
  local of_jobs, bodies, rows = {}, {}, {}
  for i, job in ipairs(jobs) do
    local f = call('HMGET', P .. 'j:' .. job, 'n', 'b', 'm', 'd', 'cg', 'mt', 'ff', 'fh')
    f[7], f[8] = failing_ms(f[7], f[8]), nil
    of_jobs[i] = f
    bodies[i] = P .. 'b:' .. f[4]
  end
  bodies = get_many(bodies)
  for i, job in ipairs(jobs) do
    local f = of_jobs[i]
    local head = call('HMGET', P .. 'd:' .. f[4], 'h', 'at')
    rows[i] = { job, expiries_of(lane, job), delays[i] or '0', f, head, bodies[i] }
  end
  return rows
end

local settled, leaving_jobs, answered = {}, {}, 0
for i, outcome in ipairs(request.settle or {}) do leaving_jobs[i] = outcome.k end
look_up_leases(lane, leaving_jobs)
for _, outcome in ipairs(request.settle or {}) do
  if outcome.o == 'done' or outcome.y then answered = answered + 1 end
  if outcome.o == 'done' then succeeded = math.max(succeeded or 0, T - (outcome.du or 0)) end
end
if answered > 0 then
  note_answer()
  count_answers(answered)
end
if succeeded then note_success(succeeded) end
for _, outcome in ipairs(request.settle or {}) do
  if settle(outcome) then settled[#settled + 1] = outcome.k end
end

go_on_with_groups()

local claimed, more, isolated = {}, 0, 0
if request.claim then
  local members, delays
  members, delays, more, isolated = take(lane, request.claim)
  claimed = contents(members, delays)
elseif #settled > 0 then
  flush_closed_leases(lane)
  flush_owed()
  ring_if_due(lane)
end
flush_families()
ring_woken()

return { settled, bells, claimed, more, isolated, NOW, held_ms() }
