#!lua flags=allow-oom
-- Settle deliveries with what was read in them (plan), then claim the next, in one step.
-- Keys: all of _common, _parking and _claim; b:, d:, m:, cust:, alias:, ix:d:, trim of the deliveries; gone.
-- ARGV[1]: {lane, source, keep, keep_dead, plans: [...], claim: {...} or absent}; a plan is
--   {k delivery, t token, o processed|ignored|test|quarantined|back, r reason, e event id, ty type, at, us created,
--    f form, c [customer digest, digests of aliases ...], jobs: [{a action, og, cg, s skipped or absent, r, u}],
--    w ms until a delivery handed back is due}.
-- Returns {[[delivery, state, first or empty], ...], bells, [[delivery, body, again, ended leases], ...], more,
--   suspect}. Plans of deliveries that are not held under their token change nothing and are left out.
--COMMON
--PARKING
--CLAIM

local request = cjson.decode(ARGV[1])
local lane, source = request.lane, request.source
KEEP, KEEP_DEAD = request.keep, request.keep_dead

local function received(delivery)
  return tonumber(string.sub(delivery, 1, 8) .. string.sub(delivery, 10, 13), 16) or T
end

local function index(delivery, plan)
  local customer = plan.c and plan.c[1]
  if not customer then return end
  call('ZADD', P .. 'cust:' .. customer, int(received(delivery)), delivery)
  for i = 2, #plan.c do call('SADD', P .. 'alias:' .. plan.c[i], customer) end
end

-- Write what became of a delivery; `fields` are further pairs.
local function settle_delivery(delivery, state, plan, fields)
  local key = P .. 'd:' .. delivery
  local before = call('HMGET', key, 's', 'again')
  if before[1] then call('ZREM', P .. 'ix:d:' .. before[1], delivery) end
  if before[1] or before[2] then call('HDEL', key, 'r', 'first', 'again') end
  local set = fields or {}
  local function add(name, value)
    set[#set + 1] = name
    set[#set + 1] = value
  end
  add('s', state)
  add('src', source)
  add('z', int(T))
  for _, name in ipairs({ 'ty', 'e', 'at', 'us', 'f', 'r' }) do
    local value = plan[name]
    if value and value ~= '' then add(name, type(value) == 'number' and int(value) or value) end
  end
  if plan.c and #plan.c > 0 then add('c', table.concat(plan.c, ' ')) end
  call('HSET', key, unpack(set))
  call('ZADD', P .. 'ix:d:' .. state, int(received(delivery)), delivery)
  index(delivery, plan)
  if state ~= 'processed' then count_family(delivery, 0, 0) end
end

local function add_job(delivery, plan, job, key)
  local set = { 'd', delivery, 'n', 0, 'us', int(plan.us), 'ar', delivery }
  local function add(name, value)
    set[#set + 1] = name
    set[#set + 1] = value
  end
  if job.og then add('og', job.og) end
  if job.cg then add('cg', job.cg) end
  if job.u then add('u', 1) end
  if job.s then
    add('ps', 1)
    return set_state(key, 'skipped', job.r, nil, delivery, set)
  end
  if not (job.og or job.cg) then
    set_state(key, 'owed', nil, nil, delivery, set)
    return owe('jobs/' .. action_of(key), key)
  end
  call('HSET', P .. 'j:' .. key, unpack(set))
  enter(key)
end

-- The key under which an action is (still) owed for an event; nil where a job stands already.
-- `again` is what the operator asked for: 1 what is missing, 2 also what is done.
local function job_key(plan, job, again)
  local key = source .. ':' .. plan.e .. ':' .. job.a
  local state = call('HGET', P .. 'j:' .. key, 's')
  if not state then return key, job.a end
  if again ~= '2' then return nil end
  local round = 1
  while state == 'done' do
    round = round + 1
    state = call('HGET', P .. 'j:' .. key .. ':r' .. round, 's')
  end
  if state or round == 1 then return nil end
  job.cg = nil
  return key .. ':r' .. round, job.a .. ':r' .. round
end

-- Record the event with all its jobs; on a replay, with those that are missing.
local function process(delivery, plan, again)
  local mark = P .. 'm:' .. source .. ':' .. plan.e
  local first = call('GET', mark)
  if first and first ~= delivery and call('HEXISTS', P .. 'd:' .. delivery, 'j') == 0 then
    call('PEXPIRE', mark, int(MARK))
    settle_delivery(delivery, 'duplicate', plan, { 'first', first })
    return 'duplicate', first
  end
  call('SET', mark, delivery, 'PX', int(MARK))
  local names, added = call('HGET', P .. 'd:' .. delivery, 'j'), {}
  for _, job in ipairs(plan.jobs or {}) do
    local key, name = job_key(plan, job, again)
    if key then
      names = names and (names .. ' ' .. name) or name
      added[#added + 1] = { job, key }
    end
  end
  settle_delivery(delivery, 'processed', plan, names and { 'j', names })
  for _, pair in ipairs(added) do add_job(delivery, plan, pair[1], pair[2]) end
  count_family(delivery, 0, 0)
  return 'processed', ''
end

-- Whether the event is of a customer who was forgotten. One that is known by the name of a forgotten one, but has
-- another id, may be a person who came back: then only what happened before counts.
local any_gone = call('EXISTS', P .. 'gone') == 1
local function is_forgotten(plan)
  if not any_gone or not plan.c or not plan.c[1] then return false end
  for i, at in ipairs(call('HMGET', P .. 'gone', unpack(plan.c))) do
    if at and (i == 1 or plan.us <= tonumber(at) * 1000) then return true end
  end
  return false
end

local function drop_forgotten(delivery, plan)
  settle_delivery(delivery, 'ignored', { ty = plan.ty, r = 'its customer was forgotten' })
  call('DEL', P .. 'b:' .. delivery)
  return 'ignored', ''
end

local function settle(plan)
  local due = let_go(lane, plan.k, plan.t)
  if not due then return nil end
  if plan.o == 'back' then
    call('ZADD', P .. 'due:' .. lane, int(plan.w and T + plan.w or due), plan.k)
    return 'queued', ''
  end
  forget_lapses(lane, plan.k)
  if is_forgotten(plan) then return drop_forgotten(plan.k, plan) end
  if plan.o == 'processed' then return process(plan.k, plan, call('HGET', P .. 'd:' .. plan.k, 'again')) end
  settle_delivery(plan.k, plan.o, plan)
  return plan.o, ''
end

lapse = function(_, delivery, count)
  if count < ENDED then return true end
  settle_delivery(delivery, 'quarantined', { r = 'poison: ' .. count .. ' leases ended while it was being read' })
  return false
end

local settled = {}
for _, plan in ipairs(request.plans or {}) do
  local state, first = settle(plan)
  if state then settled[#settled + 1] = { plan.k, state, first } end
end

local lent, more, suspect = {}, 0, 0
if request.claim then
  local members, delays
  members, delays, more, suspect = take(lane, request.claim)
  for _, delivery in ipairs(members) do
    lent[#lent + 1] = {
      delivery, call('GET', P .. 'b:' .. delivery) or '', call('HGET', P .. 'd:' .. delivery, 'again') or '0',
      lapses_of(lane, delivery),
    }
  end
end
flush_let_go(lane)
flush_families()
ring_woken()
return { settled, bells, lent, more, suspect }
