#!lua flags=allow-oom
-- Move back what is due and held, after the server's clock went back. Bounded: at most 500 members a call; call it again
-- while it says that more is left. Repeating it, or several workers at once, move nothing twice: the ledger keeps how far
-- it has moved in all (`total`), and a request says which total it knew (`known`) and by how much the clock went back
-- since then (`by`): only what that exceeds the ledger's total is moved.
-- Keys: clock_shift, lanes, due:, held:, lease:, lane: of all lanes; limit: of the limits named.
-- ARGV: by (ms; 0 only looks and goes on), known (the total that the caller knew), lease (ms), limits ...
-- Returns {total, 1 while more is left, ms by which this call found the clock back, bells}.
--COMMON

local STEP, TOLERANCE = 500, 5000
local by, known, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local KEY = P .. 'clock_shift'

local f = call('HMGET', KEY, 'total', 'seen', 'by', 'lane', 'cursor')
local total, seen = tonumber(f[1] or 0), tonumber(f[2] or 0)
local found = 0

-- How far behind what it showed before the clock is, by what the ledger holds: the latest time that a worker wrote
-- down, and deliveries, which are never due in the future. For a time without workers.
local function behind()
  local latest = seen
  for _, lane in ipairs(call('SMEMBERS', P .. 'lanes')) do
    if string.sub(lane, 1, 11) == 'deliveries/' then
      local last = call('ZREVRANGE', P .. 'due:' .. lane, 0, 0, 'WITHSCORES')
      latest = math.max(latest, tonumber(last[2] or 0))
    end
  end
  return latest - T
end

-- Begin with a move, unless one is under way: that one is ended first.
local function start(ms)
  found = ms
  total = total + ms
  by = ms
  call('HSET', KEY, 'total', int(total), 'by', int(ms), 'last', int(ms), 'at', NOW, 'lane', '', 'cursor', NOW, 'seen', NOW)
  for i = 4, #ARGV do
    local key = P .. 'limit:' .. ARGV[i]
    local start_us, ttl = call('GET', key), call('PTTL', key)
    if start_us and tonumber(start_us) > T_US then
      local moved = math.max(T_US, tonumber(start_us) - ms * 1000)
      call('SET', key, int(moved), 'PX', int(math.max(1000, math.min(ttl, (moved - T_US) / 1000 + 60000))))
    end
  end
end

local left = STEP

-- A lane's hold, once a lane.
local function move_hold(lane)
  local key = P .. 'lane:' .. lane
  local times = call('HMGET', key, 'hold_until', 'hold_from', 'extra_bell')
  for i, name in ipairs({ 'hold_until', 'hold_from', 'extra_bell' }) do
    local at = tonumber(times[i] or 0)
    if at > T then call('HSET', key, name, int(math.max(T, at - by))) end
  end
  call('HDEL', key, 'bell', 'drained')
end

-- A lease that ends later than any can that was given now was given before: move its end, and when its member was due.
local function move_leases(lane)
  local members = call('ZRANGEBYSCORE', P .. 'held:' .. lane, '(' .. int(T + lease), '+inf', 'WITHSCORES', 'LIMIT', 0, left)
  for i = 1, #members, 2 do
    call('ZADD', P .. 'held:' .. lane, int(math.max(T, math.min(T + lease, tonumber(members[i + 1]) - by))), members[i])
    local text = call('HGET', P .. 'lease:' .. lane, members[i])
    local token, due = string.match(text or '', '^(%S+) (%d+)$')
    if token then call('HSET', P .. 'lease:' .. lane, members[i], token .. ' ' .. int(math.min(T, tonumber(due) - by))) end
  end
  left = left - #members / 2
  return left > 0
end

-- Members that are due later than now, from the earliest on. One that was moved lies before the cursor, so it is not
-- met again; of equal times those that are left are still there.
local function move_due(lane, cursor)
  local members = call('ZRANGEBYSCORE', P .. 'due:' .. lane, cursor, '+inf', 'WITHSCORES', 'LIMIT', 0, left)
  local pairs_of = {}
  for i = 1, #members, 2 do
    pairs_of[i], pairs_of[i + 1] = int(tonumber(members[i + 1]) - by), members[i]
  end
  call_many('ZADD', P .. 'due:' .. lane, pairs_of)
  local was_all = #members / 2 < left
  left = left - #members / 2
  return was_all, members[#members]
end

-- Go on with the move under way. `lane` is the one that is not through, `cursor` where to go on in it; lanes are taken
-- by name.
local function go_on(lane, cursor)
  local lanes = call('SMEMBERS', P .. 'lanes')
  table.sort(lanes)
  for _, name in ipairs(lanes) do
    if name >= lane then
      if name > lane then
        cursor = NOW
        move_hold(name)
      end
      local through, last = false, cursor
      if left > 0 and move_leases(name) then through, last = move_due(name, cursor) end
      ring_if_due(name)
      if not through then
        call('HSET', KEY, 'lane', name, 'cursor', last or cursor)
        return
      end
    end
  end
  call('HDEL', KEY, 'by', 'lane', 'cursor')
end

if f[3] then
  by = tonumber(f[3])
  go_on(f[4] or '', f[5] or NOW)
else
  local wanted = math.max(by - (total - known), behind())
  if wanted > TOLERANCE then
    start(wanted)
    go_on('', NOW)
  elseif T - seen >= 5000 then
    call('HSET', KEY, 'seen', NOW)
  end
end
return { int(total), call('HEXISTS', KEY, 'by'), int(found), bells }
