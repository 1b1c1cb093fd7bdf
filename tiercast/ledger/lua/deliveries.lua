#!lua flags=allow-oom
-- Settle deliveries with what was read in them (plan), then claim the next, in one step.
-- Keys: all of _common, _parking, _names, _marks and _claim; b:, d:, cust:, alias:, ix:d:, trim of the deliveries; gone,
--   projects, rewrite.
-- ARGV[1]: {lane, source, keep, keep_dead, plans: [...], claim: {...} or absent}; a plan is
--   {k delivery, t token, o processed|ignored|test|quarantined, r reason, v what became of the rules, p project,
--    e event id, h head of the event (keys.py), at, c [customer digest, digests of aliases ...],
--    ln 1 where any action has once or order, rk rank,
--    jobs: [{a action, og, cg, s skipped or absent, r, u} or just the action, ...]}. An og or cg of 24 characters begins with the customer's digest.
-- Returns {[[delivery, state, first or empty], ...], bells, [[delivery, body, again, expired leases], ...], more,
--   isolated}. Plans of deliveries that are not held under their token change nothing and are left out.
--COMMON
--PARKING
--NAMES
--MARKS
--CLAIM

local request = cjson.decode(ARGV[1])
local lane, source = request.lane, request.source
KEEP, KEEP_DEAD = request.keep, request.keep_dead

-- When a delivery arrived, as commands take it.
local function received(delivery)
  return int(tonumber(string.sub(delivery, 1, 8) .. string.sub(delivery, 10, 13), 16) or T)
end

-- When its event was created (microseconds), as commands take it.
local function created(plan) return string.match(plan.h, '^%S+') end

local function index(delivery, plan, at)
  local customer = plan.c and plan.c[1]
  if not customer then return end
  call('ZADD', P .. 'cust:' .. customer, at, delivery)
  for i = 2, #plan.c do call('SADD', P .. 'alias:' .. plan.c[i], customer) end
end

local indexed = {}

-- Write what became of a delivery; `before` is what it was (state and what a replay asked for), `fields` are further
-- pairs.
local function settle_delivery(delivery, state, plan, before, fields)
  local key = P .. 'd:' .. delivery
  if before.state then call('ZREM', P .. 'ix:d:' .. before.state, delivery) end
  if before.state == 'quarantined' then count_open('quarantined', source, -1) end
  if state == 'quarantined' then count_open('quarantined', source, 1) end
  if before.state or before.again then
    call('HDEL', key, 'r', 'v', 'first', 'again', 'only', 'rounds')
  else
    fresh[delivery] = true
  end
  local set, at = fields or {}, received(delivery)
  local function add(name, value)
    set[#set + 1] = name
    set[#set + 1] = value
  end
  local open = fresh[delivery] and take_open(delivery)
  if open then add('o', open) end
  if plan.r then add('r', plan.r) end
  if plan.v then add('v', plan.v) end
  if plan.p and plan.p ~= source then add('p', plan.p) end
  if plan.c then add('c', table.concat(plan.c, ' ')) end
  if plan.e then
    call('HSET', key, 's', state, 'src', source, 'z', NOW, 'e', plan.e, 'h', plan.h, 'at', plan.at, unpack(set))
  else
    call('HSET', key, 's', state, 'src', source, 'z', NOW, unpack(set))
  end
  local index_pairs = indexed[state] or {}
  indexed[state] = index_pairs
  index_pairs[#index_pairs + 1] = at
  index_pairs[#index_pairs + 1] = delivery
  index(delivery, plan, at)
  if state ~= 'processed' then count_family(delivery, 0, 0, 0) end
end

local function flush_indexed()
  for state, index_pairs in pairs(indexed) do call_many('ZADD', P .. 'ix:d:' .. state, index_pairs) end
  indexed = {}
end

-- The action of a plan's job, which is all there is of a plain one.
local function name_of(job) return type(job) == 'string' and job or job.a end

local function add_owed(action, key, about, fields)
  set_state(key, 'owed', nil, about, fields)
  owe('jobs/' .. action, key)
end

-- Whether an action has a group of this digest.
local function has_once(action, digest)
  local group = once_key(action, digest)
  return call('HEXISTS', P .. 'once:' .. action, digest) == 1
    or call('EXISTS', P .. 's:' .. group, P .. 'p:' .. group, P .. 'k:' .. group) > 0
end

local function has_order(action, digest)
  local group = order_key(action, digest)
  return call('EXISTS', P .. 's:' .. group, P .. 'p:' .. group, P .. 'k:' .. group, P .. 'n:' .. group) > 0
end

-- The customer may be known by another name than the event's: ask before a place is taken.
local function find_groups(plan, job)
  local names = plan.c
  if not names then return end
  local function belongs(digest) return digest and #digest == NAME + 8 and string.sub(digest, 1, NAME) == names[1] end
  if not (belongs(job.og) or belongs(job.cg)) then return end
  plan.all = plan.all or names_of_customer(names)
  if belongs(job.og) then
    job.og = digest_of_customer(job.og, plan.all, function(digest) return has_order(job.a, digest) end)
  end
  if belongs(job.cg) then
    job.cg = digest_of_customer(job.cg, plan.all, function(digest) return has_once(job.a, digest) end)
  end
end

local function add_job(delivery, plan, job, key)
  local set, about = { 'd', delivery, 'n', 0 }, { false, delivery }
  if type(job) == 'string' then return add_owed(job, key, about, set) end
  local function add(name, value)
    set[#set + 1] = name
    set[#set + 1] = value
  end
  find_groups(plan, job)
  if job.og or job.cg then add('us', created(plan) .. (plan.rk and ' ' .. plan.rk or '')) end
  if job.og then add('og', job.og) end
  if job.cg then add('cg', job.cg) end
  if job.u then add('u', 1) end
  if job.s then
    add('ps', 1)
    return set_state(key, 'skipped', job.r, about, set)
  end
  if not (job.og or job.cg) then return add_owed(job.a, key, about, set) end
  call('HSET', P .. 'j:' .. key, unpack(set))
  find_place(key)
end

-- Whether a limit of a replay (names, space separated; nil for none) lets this name pass.
local function allows(limit, name)
  return not limit or string.find(' ' .. limit .. ' ', ' ' .. name .. ' ', 1, true) ~= nil
end

-- The key under which an action is (still) owed for an event; nil where a job stands already, or the replay is not to
-- make it. `before.again` is what the operator asked for: 1 what is missing, 2 also what is done; `before.only` and
-- `before.rounds` limit it.
local function job_key(key, job, before)
  local name = name_of(job)
  local state = call('HGET', P .. 'j:' .. key, 's')
  if not state then
    if not allows(before.only, name) then return nil end
    return key, name
  end
  if before.again ~= '2' then return nil end
  local round = 1
  while state == 'done' do
    round = round + 1
    state = call('HGET', P .. 'j:' .. key .. ':r' .. round, 's')
  end
  if state or round == 1 or not allows(before.rounds, name .. ':r' .. round) then return nil end
  if name ~= job then job.cg = nil end
  return key .. ':r' .. round, name .. ':r' .. round
end

-- Whether any delivery of this request is on record already (a replay), and whether any job that its plans ask for
-- stands: hardly ever, so asked of all at once.
local any_known, any_stands

local function look_around(plans)
  local deliveries, jobs = {}, {}
  for i, plan in ipairs(plans) do
    deliveries[i] = P .. 'd:' .. plan.k
    plan.keys = {}
    for j, job in ipairs(plan.jobs or {}) do
      plan.keys[j] = source .. ':' .. plan.e .. ':' .. name_of(job)
      jobs[#jobs + 1] = P .. 'j:' .. plan.keys[j]
    end
  end
  any_known, any_stands = any_exists(deliveries), any_exists(jobs)
end

-- Whether a replay that is limited to some actions is to make none of the plan's jobs.
local function leads_nowhere(plan, only)
  for _, job in ipairs(plan.jobs or {}) do
    if allows(only, name_of(job)) then return false end
  end
  return true
end

-- A receiver stored a delivery once more that was settled and has left the ledger: its first answer was lost, and it
-- waited in a spool. Nothing of it is done again, and what is in the history stays as it is.
local function drop_repeated(delivery)
  call('DEL', P .. 'b:' .. delivery)
  return 'duplicate', delivery
end

-- Record the event with all its jobs; on a replay, with those that are missing.
local function process(delivery, plan, before)
  if before.only and not before.jobs and leads_nowhere(plan, before.only) then
    plan.r = 'replayed for ' .. before.only .. ' only, to which no rule leads'
    settle_delivery(delivery, 'ignored', plan, before)
    return 'ignored', ''
  end
  local first, bucket, field = find_mark(plan.p or source, plan.e)
  if first and first ~= delivery and not before.jobs then
    set_mark(bucket, field, first)
    settle_delivery(delivery, 'duplicate', plan, before, { 'first', first })
    return 'duplicate', first
  end
  if first == delivery and not before.state then return drop_repeated(delivery) end
  set_mark(bucket, field, delivery)
  -- Where the mark is new, no plan before this one in the request has added a job of the event.
  local names, none_stands = before.jobs, not first and not any_stands
  for i, job in ipairs(plan.jobs or {}) do
    local key, name = plan.keys[i], name_of(job)
    if before.only or not none_stands then key, name = job_key(key, job, before) end
    if key then
      names = names and (names .. ' ' .. name) or name
      add_job(delivery, plan, job, key)
    end
  end
  count_family(delivery, 0, 0, 0)
  settle_delivery(delivery, 'processed', plan, before, names and { 'j', names })
  return 'processed', ''
end

-- Whether the event is of a customer who was forgotten. One that is known by the name of a forgotten one, but has
-- another id, may be a person who came back: then only what happened before counts.
local any_gone = call('EXISTS', P .. 'gone') == 1
local function is_forgotten(plan)
  if not any_gone or not plan.c or not plan.c[1] then return false end
  for i, at in ipairs(call('HMGET', P .. 'gone', unpack(plan.c))) do
    if at and (i == 1 or tonumber(created(plan)) <= tonumber(at) * 1000) then return true end
  end
  return false
end

local function drop_forgotten(delivery, plan, before)
  local type_only = '0  ' .. string.match(plan.h, '^%S* %S* (.*)$')
  settle_delivery(delivery, 'ignored', { r = 'its customer was forgotten' }, before, { 'h', type_only })
  call('DEL', P .. 'b:' .. delivery)
  call('HSETNX', P .. 'rewrite', 'forgot', NOW)
  return 'ignored', ''
end

local function look_up_delivery(delivery)
  if not any_known then return {} end
  local f = call('HMGET', P .. 'd:' .. delivery, 's', 'again', 'j', 'only', 'rounds')
  return { state = f[1], again = f[2], jobs = f[3], only = f[4] or nil, rounds = f[5] or nil }
end

local function settle(plan)
  if not close_lease(plan.k, plan.t) then return nil end
  forget_expiries(lane, plan.k)
  local before = look_up_delivery(plan.k)
  if is_forgotten(plan) then return drop_forgotten(plan.k, plan, before) end
  local state, first = plan.o, ''
  if state == 'processed' then
    state, first = process(plan.k, plan, before)
  else
    settle_delivery(plan.k, state, plan, before)
  end
  if plan.ln and not plan.all then names_of_customer(plan.c) end
  return state, first
end

on_expiry = function(_, delivery, count)
  if count < POISON then return true end
  local reason = 'poison: ' .. count .. ' leases expired while it was being read'
  any_known = true
  settle_delivery(delivery, 'quarantined', { r = reason }, look_up_delivery(delivery))
  return false
end

-- What a worker needs of each delivery that it has claimed; hardly ever is one on record already (a replay).
local function contents(deliveries)
  local bodies, records, rows = {}, {}, {}
  for i, delivery in ipairs(deliveries) do
    bodies[i], records[i] = P .. 'b:' .. delivery, P .. 'd:' .. delivery
  end
  bodies = get_many(bodies)
  local any = any_exists(records)
  for i, delivery in ipairs(deliveries) do
    local again = any and call('HGET', records[i], 'again') or '0'
    rows[i] = { delivery, bodies[i] or '', again, expiries_of(lane, delivery) }
  end
  return rows
end

-- The projects of a source, for whoever looks for an event or a customer by the source's name.
local noted = {}

local function note_project(plan)
  local pair = source .. '/' .. (plan.p or source)
  if noted[pair] then return end
  noted[pair] = true
  if call('SISMEMBER', P .. 'projects', pair) == 0 then call('SADD', P .. 'projects', pair) end
end

local settled, leaving_deliveries = {}, {}
for i, plan in ipairs(request.plans or {}) do leaving_deliveries[i] = plan.k end
look_up_leases(lane, leaving_deliveries)
look_around(request.plans or {})
for _, plan in ipairs(request.plans or {}) do
  if plan.e then note_project(plan) end
  local state, first = settle(plan)
  if state then settled[#settled + 1] = { plan.k, state, first } end
end

local claimed, more, isolated = {}, 0, 0
if request.claim then
  local members, _
  members, _, more, isolated = take(lane, request.claim)
  claimed = contents(members)
end
flush_closed_leases(lane)
flush_indexed()
flush_marks()
flush_families()
ring_woken()
return { settled, bells, claimed, more, isolated }
