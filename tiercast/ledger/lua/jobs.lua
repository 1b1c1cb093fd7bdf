#!lua flags=allow-oom
-- Settle jobs of one action, then claim the next, in one step.
-- Keys: all of _common, _parking and _claim; reads b: and d: of the claimed jobs' deliveries.
-- ARGV[1]: {lane, keep, keep_dead, settle: [...], claim: {...} or absent, put_off: {ms, reason} or absent,
--   wake: true where no drain of the caller will claim next}; an
--   outcome is {k job, t token, o done|later|skipped|dead|uncertain|back, r text, w ms until due again,
--    m 1 effect possible | 0 known not to be, st started ms before now (as a rule du), du duration ms}.
-- Returns {[settled job, ...], bells, [[job, ended leases, delay, [attempts, attempts before retry, maybe, delivery,
--   once digest, ms when an effect became possible], [head of the event, at], body], ...], more,
--   suspect, now in ms}; what is not there is null.
--COMMON
--PARKING
--CLAIM

local request = cjson.decode(ARGV[1])
local lane = request.lane
KEEP, KEEP_DEAD = request.keep, request.keep_dead

local function settle(o)
  local due = let_go(o.k, o.t)
  if not due then return false end
  local key = P .. 'j:' .. o.k
  if o.o == 'back' then
    call('ZADD', P .. 'due:' .. lane, int(o.w and T + o.w or due), o.k)
    if o.r then call('HSET', key, 'r', o.r) end
    return true
  end
  local about = look_up(o.k)
  local maybe = about[MAYBE] == '1'
  local more = o.du and attempt_fields(o.k, about[TRIES] + 1, int(T - (o.st or o.du)), int(o.du), o.o, o.r) or {}
  if o.m == 1 then
    for _, value in ipairs({ 'm', 1, 'mt', NOW }) do more[#more + 1] = value end
  elseif o.m == 0 and maybe then
    call('HDEL', key, 'm', 'mt')
  end
  if o.o == 'later' then
    if o.r then
      more[#more + 1] = 'r'
      more[#more + 1] = o.r
    end
    if #more > 0 then call('HSET', key, unpack(more)) end
    call('ZADD', P .. 'due:' .. lane, int(T + o.w), o.k)
    return true
  end
  forget_lapses(lane, o.k)
  finish(o.k, o.o, o.r, o.m == 1 or (o.m == nil and maybe), about, more)
  return true
end

lapse = function(_, job, count)
  local key, lost = P .. 'j:' .. job, 'the worker that held it was lost'
  local n = call('HGET', key, 'n') + 1
  call('HSET', key, 'm', 1, 'mt', NOW, 'r', lost, unpack(attempt_fields(job, n, NOW, '0', 'lost', lost)))
  if count < ENDED then return true end
  finish(job, 'dead', 'poison: ' .. count .. ' leases ended while it was performed', true)
  return false
end

-- What a worker needs of each job that is lent to it.
local function contents(jobs, delays)
  local of_jobs, bodies, rows = {}, {}, {}
  for i, job in ipairs(jobs) do
    of_jobs[i] = call('HMGET', P .. 'j:' .. job, 'n', 'b', 'm', 'd', 'cg', 'mt')
    bodies[i] = P .. 'b:' .. of_jobs[i][4]
  end
  bodies = get_many(bodies)
  for i, job in ipairs(jobs) do
    local f = of_jobs[i]
    local told = call('HMGET', P .. 'd:' .. f[4], 'h', 'at')
    rows[i] = { job, lapses_of(lane, job), delays[i] or '0', f, told, bodies[i] }
  end
  return rows
end

local settled, leaving_jobs = {}, {}
for i, outcome in ipairs(request.settle or {}) do leaving_jobs[i] = outcome.k end
look_up_leases(lane, leaving_jobs)
for _, outcome in ipairs(request.settle or {}) do
  if settle(outcome) then settled[#settled + 1] = outcome.k end
end
if request.put_off then put_off(lane, T + request.put_off[1], request.put_off[2]) end

go_on_with_groups()

local lent, more, suspect = {}, 0, 0
if request.claim then
  local members, delays
  members, delays, more, suspect = take(lane, request.claim)
  lent = contents(members, delays)
elseif #settled > 0 then
  flush_let_go(lane)
  flush_owed()
  if request.wake then call('HDEL', P .. 'lane:' .. lane, 'ticket') end
  ring_if_due(lane)
end
flush_families()
ring_woken()
return { settled, bells, lent, more, suspect, NOW }
