-- Claiming: return ended leases to the lane, then lend out what is due.
-- Touches due:, held:, lease:, lapsed:, claim:, limit:, lane:; through `lapse` what the lane's kind needs.

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

-- How many may be lent now: what is asked for, within the lane's cap; none while it is put off. And the lane's room.
local function allowance(lane, claim)
  local lane_key = P .. 'lane:' .. lane
  local f = call('HMGET', lane_key, 'wake_at', 'paused', 'cap')
  if claim.cap and f[3] ~= tostring(claim.cap) then call('HSET', lane_key, 'cap', claim.cap) end
  if f[3] and not claim.cap then call('HDEL', lane_key, 'cap') end
  if f[2] then return 0, 0 end
  if f[1] then
    if tonumber(f[1]) > T then return 0, 0 end
    call('HDEL', lane_key, 'wake_at', 'reason')
  end
  local room = claim.cap and claim.cap - call('ZCARD', P .. 'held:' .. lane) or claim.n
  return math.max(0, math.min(claim.n, room)), room
end

-- Due members: those whose lease never ended, or (alone) one whose lease did. Returns how many suspects it saw, too.
local function pick(lane, n, suspects)
  local lapsed = any_lapsed(lane) and call('HLEN', P .. 'lapsed:' .. lane) or 0
  local found = call('ZRANGEBYSCORE', P .. 'due:' .. lane, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, n + 1 + lapsed)
  local picked, more, seen = {}, false, 0
  for i = 1, #found, 2 do
    local is_suspect = lapsed > 0 and call('HEXISTS', P .. 'lapsed:' .. lane, found[i]) == 1
    if is_suspect then seen = seen + 1 end
    if is_suspect == suspects then
      if #picked < n then
        picked[#picked + 1] = { found[i], found[i + 1] }
      else
        more = true
      end
    end
  end
  return picked, more, seen
end

-- Leave places of the lane to the suspects that are due, half of them at the most: they come one by one, and what has
-- waited longest must not wait for a backlog.
local function leave_places(picked, room, suspects, cap)
  local most = room - math.min(suspects, math.max(1, math.floor(cap / 2)))
  while #picked > math.max(0, most) do picked[#picked] = nil end
end

-- Returns members, delays (ms until each may start), whether more is due, whether a suspect is due.
local function lend(lane, claim)
  local text = call('GET', P .. 'claim:' .. claim.token)
  if text then
    local members, delays = same_again(lane, claim.token, text)
    return members, delays, false, false
  end
  local n, room = allowance(lane, claim)
  if claim.suspects then n = math.min(n, 1) end
  local picked, more, seen = pick(lane, n, claim.suspects == true)
  if claim.cap and not claim.suspects then leave_places(picked, room, seen, claim.cap) end
  local members, delays, starts, start = {}, {}, claim.limits and {}, T_US
  local held, leases, ends, mark = {}, {}, int(T + claim.lease), claim.token .. ' '
  for i, pair in ipairs(picked) do
    if claim.limits and (i - 1) % claim.per_call == 0 then
      local late
      start, late = reserve(claim.limits)
      if not start then
        if i == 1 then put_off(lane, math.floor((late - HORIZON / 2) / 1000), 'rate limit') end
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
  end
  return members, delays, more and n > 0, seen > 0
end

-- The ticket while a drain is at work: kept while it claims, given back when it finds nothing, passed on when it
-- leaves. A drain that sees more than it takes calls for help; one that finds suspects only sees to them.
local function mind_ticket(lane, claim, taken, more, suspect)
  local lane_key = P .. 'lane:' .. lane
  if claim.n > 0 and (taken > 0 or more or suspect) then
    call('HSET', lane_key, 'ticket', NOW)
    if more and tonumber(call('HGET', lane_key, 'help') or 0) <= T then
      call('HSET', lane_key, 'help', int(T + HELP))
      bells[#bells + 1] = lane
    end
    return
  end
  call('HDEL', lane_key, 'ticket')
  ring_if_due(lane)
end

local function take(lane, claim)
  flush_let_go(lane)
  end_leases(lane)
  flush_owed()
  local members, delays, more, suspect = lend(lane, claim)
  if not claim.suspects then mind_ticket(lane, claim, #members, more, suspect) end
  return members, delays, more and 1 or 0, suspect and 1 or 0
end
