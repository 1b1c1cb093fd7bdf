#!lua flags=allow-oom
-- Forget a customer: drop what is open of their jobs, then remove their deliveries with everything about them.
-- Keys: all of _common, _parking, _leaving, _names, _marks and _audit; gone, rewrite, rounds, projects; held: and lease: of
--   the jobs.
-- ARGV[1]: {keep, keep_dead, names: [digest, ...], deliveries: [[delivery, source], ...], bodies: [delivery, ...],
--   audit: {...} as in _audit or absent}: `names` leave a tombstone each; of `bodies` only the raw body goes, where
--   nothing is open any more.
-- Returns {deliveries removed, jobs removed, [job that is being performed, ...], [delivery of `bodies` that still
--   needs its body, ...], bells}. A delivery with a job that is being performed stays, its other jobs are dropped.
-- Once places stay, without the name of the job that took them: nothing is paid again to whom was forgotten.
--COMMON
--PARKING
--LEAVING
--NAMES
--MARKS
--AUDIT

local request = cjson.decode(ARGV[1])
KEEP, KEEP_DEAD = request.keep, request.keep_dead

for _, digest in ipairs(request.names) do
  call('HSET', P .. 'gone', digest, NOW)
  forget_name(digest)
end

local projects = call('SMEMBERS', P .. 'projects')

-- The event's mark, in whichever project of its source.
local function forget_mark(source, event, delivery)
  for _, pair in ipairs(projects) do
    if string.sub(pair, 1, #source + 1) == source .. '/' then
      local first, bucket, field = find_mark(string.sub(pair, #source + 2), event)
      if first == delivery then drop_mark(bucket, field) end
    end
  end
end

local function is_performed(job)
  local ends = call('ZSCORE', P .. 'held:jobs/' .. action_of(job), job)
  return ends and tonumber(ends) > T
end

local orders, onces = {}, {}

-- Out of its lane and groups. One that may have had its effect keeps its once place for ever.
local function take_out(job)
  local lane = 'jobs/' .. action_of(job)
  call('ZREM', P .. 'due:' .. lane, job)
  call('ZREM', P .. 'held:' .. lane, job)
  call('HDEL', P .. 'lease:' .. lane, job)
  call('HDEL', P .. 'expiries:' .. lane, job)
  local order, once, arrival, _, digest = groups_of(job)
  local f = call('HMGET', P .. 'j:' .. job, 's', 'm')
  local open_or_dead = not FINAL[f[1]] or f[1] == 'dead'
  leave_group(order, job, arrival)
  leave_group(once, job, arrival)
  if once and (f[1] == 'uncertain' or (f[2] and open_or_dead)) then done_once(once, digest, job) end
  if order then orders[order] = true end
  if once then onces[once] = true end
  return order, digest
end

local function drop(job)
  local state = call('HGET', P .. 'j:' .. job, 's')
  if not state or FINAL[state] then return end
  take_out(job)
  set_state(job, 'skipped', 'its customer was forgotten')
end

local function remove(job)
  local state = call('HGET', P .. 'j:' .. job, 's')
  if not state then return 0 end
  local order, digest = take_out(job)
  local places = P .. 'once:' .. action_of(job)
  if digest and call('HGET', places, digest) == job then call('HSET', places, digest, 'forgotten') end
  if order and call('EXISTS', P .. 'p:' .. order) == 0 then
    call('DEL', P .. 'n:' .. order)
  elseif order and call('HEXISTS', P .. 'unfinished', order) == 1 then
    -- Those that wait are older than what was done: it is remembered until they are superseded, but not by its name.
    postpone(order, 'a newer event')
  end
  if NEEDS_OPERATOR[state] then count_open(state, about_of(job), -1) end
  call('ZREM', P .. 'ix:j:' .. state, job)
  call('DEL', P .. 'j:' .. job)
  return 1
end

-- First drop everything that is open, so that nothing of theirs is released meanwhile.
local found, busy = {}, {}
for _, pair in ipairs(request.deliveries) do
  local f = call('HMGET', P .. 'd:' .. pair[1], 's', 'src', 'e', 'j', 'c')
  local one = { id = pair[1], source = f[2] or pair[2], state = f[1], event = f[3], digests = f[5] }
  one.lane, one.jobs = 'deliveries/' .. one.source, jobs_of(one.source, one.event, f[4])
  for _, job in ipairs(one.jobs) do
    if is_performed(job) then
      one.is_busy = true
      busy[#busy + 1] = job
    else
      drop(job)
    end
  end
  found[#found + 1] = one
end

local removed, jobs = 0, 0
for _, one in ipairs(found) do
  if not one.is_busy then
    for _, job in ipairs(one.jobs) do jobs = jobs + remove(job) end
  end
end
for order in pairs(orders) do advance_order(order) end
for once in pairs(onces) do advance_once(once) end
flush_families()

for _, one in ipairs(found) do
  if not one.is_busy then
    if call('EXISTS', P .. 'd:' .. one.id, P .. 'b:' .. one.id) > 0 then removed = removed + 1 end
    for _, part in ipairs({ 'due:', 'held:' }) do call('ZREM', P .. part .. one.lane, one.id) end
    for _, part in ipairs({ 'lease:', 'expiries:' }) do call('HDEL', P .. part .. one.lane, one.id) end
    if one.event then forget_mark(one.source, one.event, one.id) end
    if one.state == 'quarantined' then count_open('quarantined', one.source, -1) end
    unfile(one.id)
    call('HDEL', P .. 'rounds', one.id)
    call('ZREM', P .. 'unfiled', one.id)
    forget_delivery(one.id, one.state, one.digests)
  end
end

local needed = {}
for _, delivery in ipairs(request.bodies) do
  local f = call('HMGET', P .. 'd:' .. delivery, 's', 'o', 'again')
  if f[1] and tonumber(f[2] or 0) == 0 and not f[3] then
    call('DEL', P .. 'b:' .. delivery)
  else
    needed[#needed + 1] = delivery
  end
end
flush_marks()
flush_open()
if removed > 0 or #request.bodies > #needed then call('HSETNX', P .. 'rewrite', 'forgot', NOW) end
-- A step that only waits for jobs under way says nothing.
if request.audit and (removed > 0 or request.audit.part == 1) then audit(request.audit, removed, 0, '') end
ring_woken()
return { removed, jobs, busy, needed, bells }
