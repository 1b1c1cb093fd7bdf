-- Claiming: return ended leases to the lane, then lend out what is due.
-- Touches due:, held:, lease:, lapsed:, claim:, limit:, rate:, lane:; through `lapse` what the lane's kind needs.

-- What an ended lease means for its member; set by the script: true keeps it owed, false buried it.
local lapse

local function end_leases(lane)
  local held = P .. 'held:' .. lane
  local ended = call('ZRANGEBYSCORE', held, '-inf', NOW, 'LIMIT', 0, 500)
  for _, member in ipairs(ended) do
    local lease = call('HGET', P .. 'lease:' .. lane, member)
    local due = lease and tonumber(string.match(lease, ' (%d+)$')) or T
    call('ZREM', held, member)
    call('HDEL', P .. 'lease:' .. lane, member)
    local count = call('HINCRBY', P .. 'lapsed:' .. lane, member, 1)
    lapses[lane] = true
    if lapse(lane, member, count, due) then
      call('ZADD', P .. 'due:' .. lane, int(due), member)
    else
      forget_lapses(lane, member)
    end
  end
end

local function lapses_of(lane, member)
  return any_lapsed(lane) and call('HGET', P .. 'lapsed:' .. lane, member) or '0'
end

local function delay_until(start) return int(math.max(0, math.ceil((start - T_US) / 1000))) end

-- The members of an earlier claim under this token that are still held under it, and their delays.
local function same_again(lane, token, text)
  local members, delays = {}, {}
  local claimed = cjson.decode(text)
  for i, member in ipairs(claimed.members) do
    local lease = call('HGET', P .. 'lease:' .. lane, member)
    if lease and string.sub(lease, 1, #token + 1) == token .. ' ' then
      members[#members + 1] = member
      delays[#members] = delay_until(claimed.starts and tonumber(claimed.starts[i]) or T_US)
    end
  end
  return members, delays
end

-- Reserve the start of one vendor call under all limits; nil when that lies beyond the horizon.
-- Starts are spaced, so no window of a limit's length ever holds more than it allows.
local function reserve(limits)
  local start = T_US
  for _, limit in ipairs(limits) do
    start = math.max(start, tonumber(call('GET', P .. 'limit:' .. limit.name) or 0))
  end
  if start > T_US + HORIZON then return nil, start end
  for _, limit in ipairs(limits) do
    local next_start = start + limit.interval
    local ttl = math.max(1000, math.ceil((next_start - T_US) / 1000))
    call('SET', P .. 'limit:' .. limit.name, int(next_start), 'PX', int(ttl))
  end
  return start
end

-- The rate that was learnt for an action or limit, in starts a second; nil where none was.
-- A vendor that answers 429 and names no time is given a little less than what it took (jobs.lua). The rate grows again
-- from there: by a tenth a second up to nine tenths of what the vendor last refused, and then by a hundredth a second.
local function learnt_rate(name)
  local f = call('HMGET', P .. 'rate:' .. name, 'base', 'at', 'ceiling')
  if not f[1] then return nil end
  local base, seconds, near = tonumber(f[1]), math.max(0, (T - tonumber(f[2])) / 1000), 0.9 * tonumber(f[3])
  if base < near then
    local fast = math.log(near / base) / math.log(1.1)
    if seconds <= fast then return base * 1.1 ^ seconds end
    base, seconds = near, seconds - fast
  end
  return base * 1.01 ^ seconds
end

-- The limits that a claim's starts count against: those that are configured, and the rate that was learnt.
local function limits_of(claim)
  local limits = claim.limits or {}
  local rate = claim.learn and learnt_rate(claim.learn)
  if rate then
    limits[#limits + 1] = { name = 'learnt/' .. claim.learn, interval = math.ceil(1000000 * claim.per_call / rate) }
  end
  return #limits > 0 and limits or nil
end

-- Hold the lane while a job probes whether the vendor is back: a second, two, four ... up to a minute.
local function hold_for_probe(lane, probe)
  local reason = call('HGET', P .. 'lane:' .. lane, 'outage_reason') or 'the vendor cannot be reached'
  call('HSET', P .. 'lane:' .. lane, 'probe', probe + 1)
  hold(lane, T + math.min(60000, 1000 * 2 ^ math.min(probe, 6)), 'outage', reason)
end

-- How many may be claimed now: what is asked for, within the lane's cap; none while it is held, one while it probes
-- whether an outage is over. And the lane's spare concurrency, and the number of the probe.
local function allowance(lane, claim)
  local lane_key = P .. 'lane:' .. lane
  local f = call('HMGET', lane_key, 'wake_at', 'paused', 'cap', 'probe')
  if claim.cap and f[3] ~= tostring(claim.cap) then call('HSET', lane_key, 'cap', claim.cap) end
  if f[3] and not claim.cap then call('HDEL', lane_key, 'cap') end
  if f[2] then return 0, 0 end
  if f[1] then
    if tonumber(f[1]) > T then return 0, 0 end
    end_hold(lane)
  end
  local n, room = claim.n, claim.cap and claim.cap - call('ZCARD', P .. 'held:' .. lane) or claim.n
  if f[4] then n = math.min(n, 1) end
  return math.max(0, math.min(n, room)), room, tonumber(f[4])
end

-- The due members that a claim may take. Members whose lease has expired once are claimed like others, but few of them
-- at a time (claim.redelivered); those whose lease has expired twice only by a process that is isolated for them, and
-- from the third time on each alone in it.
-- Returns the members with the time at which each was due, whether more of them wait, and how many need isolation.
local function pick(lane, n, claim)
  local lapsed = any_lapsed(lane) and call('HLEN', P .. 'lapsed:' .. lane) or 0
  local found = call('ZRANGEBYSCORE', P .. 'due:' .. lane, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, n + 1 + lapsed)
  local picked, more, isolated, redelivered = {}, false, 0, claim.redelivered or 16
  local alone = false
  for i = 1, #found, 2 do
    local count = lapsed > 0 and tonumber(call('HGET', P .. 'lapsed:' .. lane, found[i]) or 0) or 0
    local fits
    if count >= 2 then isolated = isolated + 1 end
    if claim.isolated then
      fits = count >= 2 and not alone and (count == 2 or #picked == 0)
      if fits and count > 2 then alone = true end
    else
      fits = count == 0 or (count == 1 and redelivered > 0)
    end
    if fits and #picked < n then
      if count == 1 then redelivered = redelivered - 1 end
      picked[#picked + 1] = { found[i], found[i + 1] }
    elseif claim.isolated and count >= 2 or not claim.isolated and count < 2 then
      more = true
    end
  end
  return picked, more, isolated
end

-- Leave places of a capped lane to the members that need isolation, half of them at the most: they come one by one,
-- and what has waited longest must not wait for a backlog.
local function leave_places(picked, room, isolated, cap)
  local most = room - math.min(isolated, math.max(1, math.floor(cap / 2)))
  while #picked > math.max(0, most) do picked[#picked] = nil end
end

-- Returns members, delays (ms until each may start), whether more is due, how many due members need isolation.
local function lend(lane, claim)
  local text = call('GET', P .. 'claim:' .. claim.token)
  if text then
    local members, delays = same_again(lane, claim.token, text)
    return members, delays, false, 0
  end
  local n, room, probe = allowance(lane, claim)
  local picked, more, isolated = pick(lane, n, claim)
  if claim.cap and not claim.isolated then leave_places(picked, room, isolated, claim.cap) end
  local limits = #picked > 0 and limits_of(claim)
  local members, delays, starts, start = {}, {}, limits and {}, T_US
  local held, leases, ends, mark = {}, {}, int(T + claim.lease), claim.token .. ' '
  for i, pair in ipairs(picked) do
    if limits and (i - 1) % claim.per_call == 0 then
      local late
      start, late = reserve(limits)
      if not start then
        if i == 1 then hold(lane, math.floor((late - HORIZON / 2) / 1000), 'rate', 'rate limit') end
        more = false
        break
      end
    end
    members[i], delays[i] = pair[1], start == T_US and '0' or delay_until(start)
    if starts then starts[i] = int(start) end
    held[2 * i - 1], held[2 * i] = ends, pair[1]
    leases[2 * i - 1], leases[2 * i] = pair[1], mark .. pair[2]
  end
  if #members > 0 then
    call_many('ZREM', P .. 'due:' .. lane, members)
    call_many('ZADD', P .. 'held:' .. lane, held)
    call_many('HSET', P .. 'lease:' .. lane, leases)
    local claimed = cjson.encode({ members = members, starts = starts })
    call('SET', P .. 'claim:' .. claim.token, claimed, 'PX', int(claim.lease * 2))
    if probe then hold_for_probe(lane, probe) end
  end
  return members, delays, more and n > 0, isolated
end

-- What a claim says of the lane's bell. One that a bell brought has heard it. One that leaves work behind calls for
-- help, now and then. While a drain is about to come back (claim.back: in so many ms), new work needs no bell; once a
-- claim has found nothing, it does.
-- Members that need isolation are no reason for a bell: ordinary claims pass them over, and the timer sees them.
local function mind_bell(lane, claim, taken, more, isolated)
  local lane_key = P .. 'lane:' .. lane
  if claim.heard then call('HDEL', lane_key, 'bell') end
  if claim.isolated then return end
  local back = more and ACTIVE or (taken > 0 and claim.back or 0)
  if claim.n > 0 and back > 0 then
    call('HSET', lane_key, 'drained', int(T + back))
  else
    call('HDEL', lane_key, 'drained')
  end
  if not more and claim.n > 0 and taken == 0 then
    if isolated == 0 then ring_if_due(lane) end
    return
  end
  if not (more or claim.n == 0) then return end
  if not call('ZRANGEBYSCORE', P .. 'due:' .. lane, '-inf', NOW, 'LIMIT', 0, 1)[1] then return end
  local state = lane_state(lane)
  local pause = claim.n == 0 and ACTIVE or HELP
  if state.help and T - state.help < pause and T >= state.help then return end
  if is_open(lane, state) and ring_unless_under_way(lane, state) then call('HSET', lane_key, 'help', NOW) end
end

local function take(lane, claim)
  flush_let_go(lane)
  end_leases(lane)
  flush_owed()
  local members, delays, more, isolated = lend(lane, claim)
  mind_bell(lane, claim, #members, more, isolated)
  return members, delays, more and 1 or 0, isolated > 0 and 1 or 0
end
