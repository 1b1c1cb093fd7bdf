#!lua flags=allow-oom
-- What an operator asks for, one member at a time.
-- Keys: all of _common and _parking. ARGV[1]: {verb, keep, keep_dead, ...}:
--   pause {lane, reason} | resume {lane}
--   retry {job}: dead, skipped or superseded -> its place again; owed -> due now
--   drop {job}: dead, uncertain, parked or owed -> skipped
--   resolve {job, as done|retry}: decides an uncertain job
--   replay {delivery, again 1|2}: a settled delivery is owed again
-- Returns {"ok", state, bells} or {"no", why, bells}.
--COMMON
--PARKING

local request = cjson.decode(ARGV[1])
KEEP, KEEP_DEAD = request.keep, request.keep_dead

local function lane_of(job) return 'jobs/' .. action_of(job) end

local function held(job) return call('HEXISTS', P .. 'lease:' .. lane_of(job), job) == 1 end

-- Take the job out of its lane and groups, so that it can find its place anew.
local function pull_out(job)
  local order, once, arrival = groups_of(job)
  call('ZREM', P .. 'due:' .. lane_of(job), job)
  leave(order, job, arrival)
  leave(once, job, arrival)
  return order, once
end

local function pull_out_and_advance(job, state, reason)
  local order, once = pull_out(job)
  forget_lapses(lane_of(job), job)
  set_state(job, state, reason)
  if order then advance_order(order) end
  if once then advance_once(once) end
  return { 'ok', state }
end

-- Whether an effect is possible stays on record: a kind that is not repeatable is asked to confirm.
local function start_over(job)
  local key = P .. 'j:' .. job
  call('HSET', key, 'b', call('HGET', key, 'n') or 0)
  forget_lapses(lane_of(job), job)
  local order, once = pull_out(job)
  enter(job)
  if order then advance_order(order) end
  if once then advance_once(once) end
  return { 'ok', call('HGET', key, 's') }
end

-- A newer job of the order group that may have had its effect.
local function barred_by(order, job)
  local newest = call('ZREVRANGE', P .. 'k:' .. order, 0, 0)[1]
  local other = newest and string.sub(newest, 38)
  return other ~= job and other or nil
end

-- One that may have had its effect keeps its once place while it is tried again, or another would be performed
-- before it was asked whether it happened. So it stands at once, whatever its turn, or it is left as it is.
local function stand_again(job, order, once)
  local _, _, arrival, created = groups_of(job)
  if superseded_by(order, nil, nil, action_of(job), created, arrival) then
    return { 'no', 'a newer event was done, and this job may have had its effect: if it had none, drop it' }
  end
  if not place_free(order, job) then
    return { 'no', 'another job of its order group is about to be performed: ask again after that' }
  end
  local bar = barred_by(order, job)
  if bar then return { 'no', 'a newer job may have had its effect: decide that one first: ' .. bar } end
  call('HSET', P .. 'j:' .. job, 'b', call('HGET', P .. 'j:' .. job, 'n') or 0)
  forget_lapses(lane_of(job), job)
  rejoin(order, job, created, arrival)
  stand(job, order, once)
  return { 'ok', 'owed' }
end

local function try_again(job)
  local order, once = groups_of(job)
  if order and once and call('GET', P .. 's:' .. once) == job then return stand_again(job, order, once) end
  return start_over(job)
end

local verbs = {}

function verbs.pause()
  call('SADD', P .. 'lanes', request.lane)
  call('HSET', P .. 'lane:' .. request.lane, 'paused', request.reason)
  return { 'ok', 'paused' }
end

function verbs.resume()
  end_hold(request.lane)
  call('HDEL', P .. 'lane:' .. request.lane, 'paused', 'probe', 'outage', 'outage_reason', 'bell', 'drained')
  ring_if_due(request.lane)
  return { 'ok', 'resumed' }
end

function verbs.retry(state)
  -- It has no groups to find its place in: performed, it would be held to no order and no once.
  local f = call('HMGET', P .. 'j:' .. request.job, 'ps', 'r')
  if f[1] then return { 'no', 'this event can never lead to it: ' .. (f[2] or '') } end
  if state == 'dead' or state == 'skipped' or state == 'superseded' then return try_again(request.job) end
  if state == 'owed' and not held(request.job) then
    owe(lane_of(request.job), request.job)
    return { 'ok', 'owed' }
  end
  if state == 'owed' then return { 'no', 'it is being performed right now' } end
  if state == 'uncertain' then return { 'no', 'its outcome is unknown: decide it with jobs resolve' } end
  if state == 'parked' then return { 'no', 'it waits for another job of its order or once group' } end
  return { 'no', 'it is ' .. state .. '; to do it again: deliveries replay --again' }
end

function verbs.drop(state)
  if state == 'owed' and held(request.job) then return { 'no', 'it is being performed right now' } end
  if state == 'owed' or state == 'parked' or state == 'dead' or state == 'uncertain' then
    return pull_out_and_advance(request.job, 'skipped', 'dropped by an operator')
  end
  return { 'no', 'it is ' .. state }
end

function verbs.resolve(state)
  if state ~= 'uncertain' then return { 'no', 'it is ' .. state .. ', not uncertain' } end
  if request.as == 'retry' then
    call('HDEL', P .. 'j:' .. request.job, 'm', 'mt')
    return start_over(request.job)
  end
  finish(request.job, 'done', 'resolved by an operator', false)
  return { 'ok', 'done' }
end

function verbs.replay()
  local key = P .. 'd:' .. request.delivery
  local f = call('HMGET', key, 's', 'src', 'first', 'again')
  if not f[1] then
    if call('EXISTS', P .. 'b:' .. request.delivery) == 1 then return { 'no', 'it is queued already' } end
    return { 'no', 'there is no such delivery' }
  end
  if f[1] == 'duplicate' then return { 'no', 'it is a duplicate; replay ' .. (f[3] or 'the first') } end
  if call('EXISTS', P .. 'b:' .. request.delivery) == 0 then
    return { 'no', 'its body was removed, because its customer was forgotten' }
  end
  local lane = 'deliveries/' .. f[2]
  call('HSET', key, 'again', math.max(request.again, tonumber(f[4] or 0)))
  if f[4] then return { 'ok', 'queued' } end
  call('ZREM', P .. 'trim', request.delivery)
  owe(lane, request.delivery)
  return { 'ok', 'queued' }
end

local answer
if request.job then
  local state = call('HGET', P .. 'j:' .. request.job, 's')
  answer = state and verbs[request.verb](state) or { 'no', 'there is no such job' }
else
  answer = verbs[request.verb]()
end
flush_families()
answer[3] = ring_woken()
return answer
