-- Claiming: return expired leases to the lane, then claim what is due.
-- Touches due:, held:, lease:, expiries:, claim:, limit:, limit_hold:, rate:, lane:; through `on_expiry` what its members need.

local TOGETHER = 16  -- members whose lease has expired twice that one isolated claim takes

-- What an expired lease means for its member; set by the script: true keeps it owed, false settled it.
local on_expiry

local function expire_leases(lane)
  local held = P .. 'held:' .. lane
  local ended = call('ZRANGEBYSCORE', held, '-inf', NOW, 'LIMIT', 0, 500)
  for _, member in ipairs(ended) do
    local lease = call('HGET', P .. 'lease:' .. lane, member)
    local due = lease and tonumber(string.match(lease, ' (%d+)$')) or T
    call('ZREM', held, member)
    call('HDEL', P .. 'lease:' .. lane, member)
    local count = call('HINCRBY', P .. 'expiries:' .. lane, member, 1)
    has_expired[lane] = true
    if on_expiry(lane, member, count, due) then
      call('ZADD', P .. 'due:' .. lane, int(due), member)
    else
      forget_expiries(lane, member)
    end
  end
end

local function expiries_of(lane, member)
  return any_expired(lane) and call('HGET', P .. 'expiries:' .. lane, member) or '0'
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

-- Why a vendor has one of these limits held; nil where none is.
local function reason_of_limits(limits)
  for _, limit in ipairs(limits) do
    local reason = call('GET', P .. 'limit_hold:' .. limit.name)
    if reason then return reason end
  end
end

-- How a learnt rate grows: up to a share of the rate that the vendor last refused, by a factor a second.
local GROWTH = { { 0.9, 1.1 }, { 1.1, 1.01 }, { math.huge, 1.1 } }

-- The rate that was learnt for an action or limit, in starts a second; nil where none was.
-- A vendor that answers 429 and names no time is given a little less than what it took (jobs.lua). The rate grows again
-- from there while work waits for it: fast up to nine tenths of what the vendor last refused, slowly past that, and fast
-- again, since then the vendor bears more than it did. It doubles each second as long as nothing says what was refused.
local function learnt_rate(name)
  local f = call('HMGET', P .. 'rate:' .. name, 'base', 'ceiling', 'grown')
  if not f[1] then return nil end
  local rate, ceiling, seconds = tonumber(f[1]), tonumber(f[2]), tonumber(f[3] or 0) / 1000
  if ceiling == 0 then return rate * 2 ^ math.min(seconds, 30) end
  for _, part in ipairs(GROWTH) do
    local ends, factor = part[1] * ceiling, part[2]
    if rate < ends then
      local needed = math.log(ends / rate) / math.log(factor)
      if seconds <= needed then return rate * factor ^ seconds end
      rate, seconds = ends, seconds - needed
    end
  end
end

-- Work waits for a learnt rate: the time since it last did so counts as growth. One that holds up nothing does not grow,
-- or the first burst after a quiet hour would be refused.
local function grow(name, interval)
  local key = P .. 'rate:' .. name
  local passed = T - tonumber(call('HGET', key, 'limited') or T)
  local most = math.max(1000, 2 * interval / 1000)
  if passed > 0 then call('HINCRBY', key, 'grown', int(math.min(passed, most))) end
  if passed ~= 0 then call('HSET', key, 'limited', NOW) end
end

-- The limits that a claim's starts count against: those that are configured, and the rate that was learnt. And the
-- latter's interval (microseconds), where there is one.
local function limits_of(claim)
  local limits, interval = claim.limits or {}, nil
  local rate = claim.learn and learnt_rate(claim.learn)
  if rate then
    interval = math.ceil(1000000 * claim.per_call / rate)
    limits[#limits + 1] = { name = 'learnt/' .. claim.learn, interval = interval }
  end
  return #limits > 0 and limits or nil, interval
end

-- Hold the lane while a job probes whether the vendor is back: a second, two, four ... up to a minute.
local function hold_for_probe(lane, probe)
  local reason = call('HGET', P .. 'lane:' .. lane, 'outage_reason') or 'the vendor cannot be reached'
  call('HSET', P .. 'lane:' .. lane, 'probe', probe + 1)
  hold(lane, T + math.min(60000, 1000 * 2 ^ math.min(probe, 6)), 'outage', reason)
end

-- Hold a lane while a job probes whether what was in doubt is mended: the credential, a setting.
-- `doubt` is {ms, cause, reason, code or absent (the vendor's, where 20 jobs died of it), at (ms, since when)}; `alike` says
-- how many have died of which code since the last success.
local function hold_in_doubt(lane, text)
  local doubt = cjson.decode(text)
  hold(lane, T + doubt.ms, doubt.cause, doubt.reason)
end

-- How many may be claimed now: what is asked for, within the lane's cap; none while it is held, one while it probes
-- whether an outage is over or what was in doubt is mended. And the lane's spare concurrency, the number of the probe, and
-- the doubt.
local function allowance(lane, claim)
  local lane_key = P .. 'lane:' .. lane
  local f = call('HMGET', lane_key, 'hold_until', 'paused', 'cap', 'probe', 'doubt')
  if claim.cap and f[3] ~= tostring(claim.cap) then call('HSET', lane_key, 'cap', claim.cap) end
  if f[3] and not claim.cap then call('HDEL', lane_key, 'cap') end
  if f[2] then return 0, 0 end
  if f[1] then
    if tonumber(f[1]) > T then return 0, 0 end
    end_hold(lane)
  end
  local n, capacity = claim.n, claim.cap and claim.cap - call('ZCARD', P .. 'held:' .. lane) or claim.n
  if f[4] or f[5] then n = math.min(n, 1) end
  if claim.isolated then n = math.min(n, TOGETHER) end
  return math.max(0, math.min(n, capacity)), capacity, tonumber(f[4]), f[5]
end

-- The due members that a claim may take. Members whose lease has expired once are claimed like others, but few of them
-- at a time (claim.redelivered); those whose lease has expired twice only by a process that is isolated for them, and
-- from the third time on each alone in it.
-- Returns the members with the time at which each was due, whether more of them wait, and how many need isolation.
local function pick(lane, n, claim)
  local expired = any_expired(lane) and call('HLEN', P .. 'expiries:' .. lane) or 0
  local found = call('ZRANGEBYSCORE', P .. 'due:' .. lane, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, n + 1 + expired)
  local picked, more, isolated, redelivered = {}, false, 0, claim.redelivered or 16
  local alone = false
  for i = 1, #found, 2 do
    local count = expired > 0 and tonumber(call('HGET', P .. 'expiries:' .. lane, found[i]) or 0) or 0
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
local function leave_places(picked, capacity, isolated, cap)
  local most = capacity - math.min(isolated, math.max(1, math.floor(cap / 2)))
  while #picked > math.max(0, most) do picked[#picked] = nil end
end

-- Claim what is due. Returns members, delays (ms until each may start), whether more is due, how many due members need
-- isolation.
local function claim_due(lane, claim)
  local text = call('GET', P .. 'claim:' .. claim.token)
  if text then
    local members, delays = same_again(lane, claim.token, text)
    return members, delays, false, 0
  end
  local n, capacity, probe, doubt = allowance(lane, claim)
  local picked, more, isolated = pick(lane, n, claim)
  if claim.cap and not claim.isolated then leave_places(picked, capacity, isolated, claim.cap) end
  local limits, learnt
  if #picked > 0 then limits, learnt = limits_of(claim) end
  local members, delays, starts, start = {}, {}, limits and {}, T_US
  local held, tokens, ends, mark = {}, {}, int(T + claim.lease), claim.token .. ' '
  for i, pair in ipairs(picked) do
    if limits and (i - 1) % claim.per_call == 0 then
      local late
      start, late = reserve(limits)
      if not start then
        if i == 1 then
          local asked = reason_of_limits(limits)
          hold(lane, math.floor((late - HORIZON / 2) / 1000), asked and 'vendor' or 'rate', asked or 'rate limit')
        end
        start = late
        more = false
        break
      end
    end
    members[i], delays[i] = pair[1], start == T_US and '0' or delay_until(start)
    if starts then starts[i] = int(start) end
    held[2 * i - 1], held[2 * i] = ends, pair[1]
    tokens[2 * i - 1], tokens[2 * i] = pair[1], mark .. pair[2]
  end
  if learnt and start > T_US then grow(claim.learn, learnt) end
  if #members > 0 then
    call_many('ZREM', P .. 'due:' .. lane, members)
    call_many('ZADD', P .. 'held:' .. lane, held)
    call_many('HSET', P .. 'lease:' .. lane, tokens)
    local claimed = cjson.encode({ members = members, starts = starts })
    call('SET', P .. 'claim:' .. claim.token, claimed, 'PX', int(claim.lease * 2))
    if probe then hold_for_probe(lane, probe) end
    if doubt then hold_in_doubt(lane, doubt) end
  end
  return members, delays, more and n > 0, isolated
end

-- What a claim says of the lane's bell. One that a bell brought has heard it. One that leaves work behind rings an extra
-- bell for a further process, now and then. While a drain is about to claim again (within claim.claims_again ms), new work
-- needs no bell; once a claim has found nothing, it does. What needs isolation needs no bell: no ordinary claim takes it,
-- and each would ring anew.
local function mind_bell(lane, claim, taken, more, isolated)
  local lane_key = P .. 'lane:' .. lane
  if claim.heard then call('HDEL', lane_key, 'bell') end
  if claim.isolated then return end
  local claims_again = more and ACTIVE or (taken > 0 and claim.claims_again or 0)
  if claim.n > 0 and claims_again > 0 then
    call('HSET', lane_key, 'drained', int(T + claims_again))
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
  local pause = claim.n == 0 and ACTIVE or EXTRA_BELL
  if state.extra_bell and T - state.extra_bell < pause and T >= state.extra_bell then return end
  if is_open(lane, state) and ring_unless_under_way(lane, state) then call('HSET', lane_key, 'extra_bell', NOW) end
end

local function take(lane, claim)
  flush_closed_leases(lane)
  expire_leases(lane)
  flush_owed()
  local members, delays, more, isolated = claim_due(lane, claim)
  mind_bell(lane, claim, #members, more, isolated)
  return members, delays, more and 1 or 0, isolated > 0 and 1 or 0
end
