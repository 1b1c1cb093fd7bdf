-- What an operator asks for, one member at a time; needs _common and _parking.
--   pause {lane, reason, by} | resume {lane}
--   retry {job}: dead, skipped or superseded -> its place again; owed -> due now
--   drop {job}: dead, uncertain, parked or owed -> skipped
--   resolve {job, as done|retry}: decides an uncertain job
--   redo {job}: a done job -> a job of its own for the next round, owed beside it
--   replay {delivery, again 1|2, only [action, ...] or absent, rounds ["<action>:r2", ...] or absent}: a settled
--     delivery is owed again; `only` limits which missing jobs it adds, `rounds` which done ones it does again
-- Touches all of _common and _parking; b: and d: of the deliveries.

--STATES job: may_retry may_drop may_resolve may_redo
--STATES delivery: may_replay

local function lane_of(job) return 'jobs/' .. action_of(job) end

local function held(job) return call('HEXISTS', P .. 'lease:' .. lane_of(job), job) == 1 end

-- Take the job out of its lane and groups, so that it can find its place anew.
local function pull_out(job)
  local order, once, arrival = groups_of(job)
  call('ZREM', P .. 'due:' .. lane_of(job), job)
  leave_group(order, job, arrival)
  leave_group(once, job, arrival)
  return order, once
end

local function pull_out_and_advance(job, state, reason)
  local order, once = pull_out(job)
  forget_expiries(lane_of(job), job)
  set_state(job, state, reason)
  if order then advance_order(order) end
  if once then advance_once(once) end
  return { 'ok', state }
end

-- Give the job a new set of attempts, and as long to succeed as if it had never failed.
local function renew_attempts(job)
  local key = P .. 'j:' .. job
  call('HSET', key, 'b', call('HGET', key, 'n') or 0)
  call('HDEL', key, 'ff', 'fh')
end

-- Whether an effect is possible stays on record: a kind that is not repeatable is asked to confirm.
local function start_over(job)
  local key = P .. 'j:' .. job
  renew_attempts(job)
  forget_expiries(lane_of(job), job)
  local order, once = pull_out(job)
  find_place(job)
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
-- before it was asked whether it happened. So it is owed at once, whatever its turn, or it is left as it is.
local function acquire_again(job, order, once)
  local _, _, arrival, created = groups_of(job)
  if superseded_by(order, nil, nil, action_of(job), created, arrival) then
    return { 'no', 'a newer event was done, and this job may have had its effect: if it had none, drop it' }
  end
  if not place_free(order, job) then
    return { 'no', 'another job of its order group is about to be performed: ask again after that' }
  end
  local bar = barred_by(order, job)
  if bar then return { 'no', 'a newer job may have had its effect: decide that one first: ' .. bar } end
  renew_attempts(job)
  forget_expiries(lane_of(job), job)
  rejoin(order, job, created, arrival)
  acquire(job, order, once)
  return { 'ok', 'owed' }
end

-- Where the lane is held for its credential or a setting, an operator who has jobs tried again has mended it: let a job
-- probe now.
local function probe_now(lane)
  if call('HEXISTS', P .. 'lane:' .. lane, 'doubt') == 0 then return end
  end_hold(lane)
  woken[lane] = true
end

local function try_again(job)
  local order, once = groups_of(job)
  if order and once and call('GET', P .. 's:' .. once) == job then return acquire_again(job, order, once) end
  return start_over(job)
end

local verbs = {}

function verbs.pause(m)
  local lane_key = P .. 'lane:' .. m.lane
  local hold_until = tonumber(call('HGET', lane_key, 'hold_until') or 0)
  call('SADD', P .. 'lanes', m.lane)
  -- A hold that is over and that no claim has ended yet is no part of the pause.
  if hold_until > 0 and hold_until <= T then end_hold(m.lane) end
  call('HSET', lane_key, 'paused', m.reason, 'paused_by', m.by or '', 'paused_at', NOW)
  call('HSETNX', lane_key, 'hold_from', NOW)
  return { 'ok', 'paused' }
end

function verbs.resume(m)
  end_hold(m.lane)
  call('HDEL', P .. 'lane:' .. m.lane, 'paused', 'paused_by', 'paused_at', 'hold_from', 'probe', 'outage',
    'outage_reason', 'bell', 'drained')
  ring_if_due(m.lane)
  return { 'ok', 'resumed' }
end

function verbs.retry(m, state)
  -- It has no groups to find its place in: performed, it would be held to no order and no once.
  local f = call('HMGET', P .. 'j:' .. m.job, 'ps', 'r')
  if f[1] then return { 'no', 'this event can never lead to it: ' .. (f[2] or '') } end
  probe_now(lane_of(m.job))
  if held(m.job) then return { 'no', 'it is being performed right now' } end
  if MAY_RETRY[state] and FINAL[state] then return try_again(m.job) end
  if MAY_RETRY[state] then
    owe(lane_of(m.job), m.job)
    return { 'ok', state }
  end
  if state == 'uncertain' then return { 'no', 'its outcome is unknown: decide it with jobs resolve' } end
  if state == 'parked' then return { 'no', 'it waits for another job of its order or once group' } end
  return { 'no', 'it is ' .. state .. '; to do it again: tiercast jobs redo' }
end

function verbs.drop(m, state)
  if held(m.job) then return { 'no', 'it is being performed right now' } end
  if MAY_DROP[state] then
    return pull_out_and_advance(m.job, 'skipped', 'dropped by an operator')
  end
  return { 'no', 'it is ' .. state }
end

function verbs.resolve(m, state)
  if not MAY_RESOLVE[state] then return { 'no', 'it is ' .. state .. ', not uncertain' } end
  if m.as == 'retry' then
    call('HDEL', P .. 'j:' .. m.job, 'm', 'mt')
    return start_over(m.job)
  end
  finish(m.job, 'done', 'resolved by an operator', false)
  return { 'ok', 'done' }
end

local refused_redo = {
  owed = 'it is owed already', parked = 'it waits for another job of its order or once group',
  uncertain = 'its outcome is unknown: decide it with jobs resolve',
  dead = 'it was not done: use jobs retry', skipped = 'it was not done: use jobs retry',
  superseded = 'it was not done: use jobs retry',
}

-- The job of the next round, with a key of its own that ends in `:r2`, `:r3`. It has the order group of the first, and
-- no once group: the operator asks for one more. A round is made once, so the same request again finds it and makes
-- no other, be it from a second operator or after a lost answer.
function verbs.redo(m, state)
  if not MAY_REDO[state] then return { 'no', refused_redo[state] or ('it is ' .. state) } end
  local first, round = string.match(m.job, '^(.*):r(%d+)$')
  local again = (first or m.job) .. ':r' .. int((tonumber(round) or 1) + 1)
  local there = call('HGET', P .. 'j:' .. again, 's')
  if there then return { 'no', 'it was done again already; that is ' .. again .. ', which is ' .. there } end
  local order, _, delivery, created = groups_of(m.job)
  local d_key = P .. 'd:' .. delivery
  local names = call('HGET', d_key, 'j')
  if not names or call('EXISTS', P .. 'b:' .. delivery) == 0 then
    return { 'no', 'its event is no longer kept' }
  end
  if superseded_by(order, nil, nil, action_of(m.job), created, delivery) then
    return { 'no', 'a newer event was done since, and this one would undo it' }
  end
  local f = call('HMGET', P .. 'j:' .. m.job, 'us', 'og', 'u')
  local set = { 'd', delivery, 'n', 0 }
  for i, name in ipairs({ 'us', 'og', 'u' }) do
    if f[i] then
      set[#set + 1] = name
      set[#set + 1] = f[i]
    end
  end
  local name = action_of(again) .. string.match(again, ':r%d+$')
  reopen(delivery)
  call('HSET', P .. 'j:' .. again, unpack(set))
  call('HSET', d_key, 'j', names .. ' ' .. name)
  find_place(again)
  return { 'ok', call('HGET', P .. 'j:' .. again, 's'), again }
end

-- A replay that waits and another that is asked for are one: it may make what either may; nil is without a limit.
local function both(waits, limit, asked, asked_limit)
  if (waits and not limit) or (asked and not asked_limit) then return nil end
  local names = {}
  if waits then names[1] = limit end
  if asked then names[#names + 1] = table.concat(asked_limit, ' ') end
  return names[1] and table.concat(names, ' ')
end

local function limit_replay(key, field, names)
  if names then call('HSET', key, field, names) else call('HDEL', key, field) end
end

function verbs.replay(m)
  local key = P .. 'd:' .. m.delivery
  local f = call('HMGET', key, 's', 'src', 'first', 'again', 'only', 'rounds')
  if not f[1] then
    if call('EXISTS', P .. 'b:' .. m.delivery) == 1 then return { 'no', 'it is queued already' } end
    return { 'no', 'there is no such delivery' }
  end
  if f[1] == 'duplicate' then return { 'no', 'it is a duplicate; replay ' .. (f[3] or 'the first') } end
  if not DELIVERY_MAY_REPLAY[f[1]] then return { 'no', 'it is ' .. f[1] } end
  if call('EXISTS', P .. 'b:' .. m.delivery) == 0 then
    return { 'no', 'its body was removed, because its customer was forgotten' }
  end
  local lane = 'deliveries/' .. f[2]
  call('HSET', key, 'again', math.max(m.again, tonumber(f[4] or 0)))
  limit_replay(key, 'only', both(f[4], f[5], true, m.only))
  limit_replay(key, 'rounds', both(f[4] == '2', f[6], m.again == 2, m.rounds))
  if f[4] then return { 'ok', 'queued' } end
  reopen(m.delivery)
  owe(lane, m.delivery)
  return { 'ok', 'queued' }
end

-- Carry a verb out for one member. Returns {"ok", state} or {"no", why}; and of what it touched the job or delivery.
-- What an earlier member released must stand in its lane before the next one is looked at.
local function carry_out(verb, m)
  flush_owed()
  if not m.job then return verbs[verb](m), m.delivery end
  local state = call('HGET', P .. 'j:' .. m.job, 's')
  if not state then return { 'no', 'there is no such job' } end
  local answer = verbs[verb](m, state)
  return answer, answer[3] or m.job
end
