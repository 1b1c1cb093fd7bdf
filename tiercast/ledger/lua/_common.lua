-- What all scripts share: names of keys, the clock, bells, finding a lane's due members.
-- KEYS[1] is the prefix with its colon. Keys are documented in keys.py.

local P = KEYS[1]
local call = redis.call

local PATIENCE = 10000       -- ms that a bell counts as under way before another may be rung; the timer has less (due.lua)
local EXTRA_BELL = 250       -- ms between two bells that bring further processes to one lane
local ACTIVE = 1000          -- ms that a drain which left work behind counts as active
local HORIZON = 1000000      -- us ahead that starts are reserved
local NEWEST = 90 * 86400    -- s that the newest done job of an order group is remembered
local POISON = 5             -- expired leases that make a member poison
local ATTEMPTS = 20          -- attempts kept of a job beside the first

local function clock_us()
  --CLOCK
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

local T_US = clock_us()
local T = math.floor(T_US / 1000)

local function int(number) return string.format('%.0f', number) end

local NOW = int(T)  -- as commands take it

local bells = {}

-- The fields of a lane that decide whether to ring for it.
local function lane_state(lane)
  local f = call('HMGET', P .. 'lane:' .. lane, 'hold_until', 'paused', 'cap', 'bell', 'drained', 'extra_bell')
  return { hold_until = tonumber(f[1]), paused = f[2], cap = tonumber(f[3]), bell = f[4], drained = tonumber(f[5]),
    extra_bell = tonumber(f[6]) }
end

-- Whether work of a lane may start now.
local function is_open(lane, state)
  if state.paused or (state.hold_until and state.hold_until > T) then return false end
  return not (state.cap and call('ZCOUNT', P .. 'held:' .. lane, '(' .. NOW, '+inf') >= state.cap)
end

-- Ms since the bell that is under way was rung, and how many have been rung since one was heard; nil where none is.
local function bell_under_way(state)
  if not state.bell then return nil, 0 end
  local at, unheard = string.match(state.bell, '^(%d+) (%d+)$')
  local age = T - tonumber(at)
  if age < 0 then return nil, 0 end  -- the clock was set back
  return age, tonumber(unheard)
end

-- Ring for a lane, unless a bell is under way already: at most one of a lane stands in the broker's queue. While nobody
-- hears, the pauses grow to 32 times the patience, so that bells do not pile up in a broker without workers.
local function ring_unless_under_way(lane, state)
  local age, unheard = bell_under_way(state)
  if age and age < PATIENCE * 2 ^ math.min(math.max(unheard - 1, 0), 5) then return false end
  call('HSET', P .. 'lane:' .. lane, 'bell', NOW .. ' ' .. (unheard + 1))
  bells[#bells + 1] = lane
  return true
end

-- Ring for a lane whose work may start now, unless a drain is about to claim from it anyway.
local function ring(lane)
  local state = lane_state(lane)
  if not is_open(lane, state) then return end
  if state.drained and state.drained > T and state.drained <= T + 10 * ACTIVE then return end
  ring_unless_under_way(lane, state)
end

-- Call a command with any number of arguments behind its key; `unpack` fails near 8,000 values.
local function call_many(command, key, values)
  for i = 1, #values, 4000 do
    call(command, key, unpack(values, i, math.min(i + 3999, #values)))
  end
end

-- Whether any of so many keys is there.
local function any_exists(names)
  for i = 1, #names, 4000 do
    if call('EXISTS', unpack(names, i, math.min(i + 3999, #names))) > 0 then return true end
  end
  return false
end

-- The values of any number of keys, false for each that is not there.
local function get_many(names)
  local values = {}
  for i = 1, #names, 4000 do
    for _, value in ipairs(call('MGET', unpack(names, i, math.min(i + 3999, #names)))) do
      values[#values + 1] = value
    end
  end
  return values
end

local owed = {}

-- Owe a member from now on, or from `at`: written, and rung for once a lane, by `flush_owed`.
local function owe(lane, member, at)
  local pairs_of = owed[lane]
  if not pairs_of then
    pairs_of = {}
    owed[lane] = pairs_of
  end
  pairs_of[#pairs_of + 1] = at and int(at) or NOW
  pairs_of[#pairs_of + 1] = member
end

local woken = {}

local function flush_owed()
  for lane, pairs_of in pairs(owed) do
    call_many('ZADD', P .. 'due:' .. lane, pairs_of)
    woken[lane] = true
  end
  owed = {}
end

local function ring_if_due(lane)
  if call('ZRANGEBYSCORE', P .. 'due:' .. lane, '-inf', NOW, 'LIMIT', 0, 1)[1] then ring(lane) end
end

-- At a script's end: ring for the lanes that got work.
local function ring_woken()
  flush_owed()
  for lane in pairs(woken) do
    call('SADD', P .. 'lanes', lane)
    ring(lane)
  end
  return bells
end

-- Ms of a lane's present hold or pause that have passed; 0 where there is none.
local function held_for(hold_until, hold_from, paused)
  if not hold_from then return 0 end
  local ends = paused and T or math.min(T, tonumber(hold_until or 0))
  return math.max(0, ends - tonumber(hold_from))
end

-- End a lane's hold. Its length is added up in `hold_total`: time on hold does not count against its jobs. A pause goes
-- on, and its time is counted from here.
local function end_hold(lane)
  local lane_key = P .. 'lane:' .. lane
  local f = call('HMGET', lane_key, 'hold_until', 'hold_from', 'paused')
  local length = held_for(f[1], f[2], f[3])
  if length > 0 then call('HINCRBY', lane_key, 'hold_total', int(length)) end
  call('HDEL', lane_key, 'hold_until', 'cause', 'reason', 'hold_from')
  if f[3] then call('HSET', lane_key, 'hold_from', NOW) end
end

-- Hold a lane until a time (ms), with the cause's code and the reason; of two holds the later one stays.
local function hold(lane, at, cause, reason)
  local lane_key = P .. 'lane:' .. lane
  local f = call('HMGET', lane_key, 'hold_until', 'hold_from')
  if f[1] and tonumber(f[1]) <= T then
    end_hold(lane)
    f = call('HMGET', lane_key, 'hold_until', 'hold_from')
  end
  if at <= tonumber(f[1] or 0) then return end
  call('HSET', lane_key, 'hold_until', int(at), 'cause', cause, 'reason', reason, 'hold_from', f[2] or NOW)
end

local closed, leaving, leases = {}, {}, {}

-- Look up the leases of members that are about to be settled, all at once: a call from Lua costs more than what it does.
local function look_up_leases(lane, members)
  for i = 1, #members, 4000 do
    local last = math.min(i + 3999, #members)
    local found = call('HMGET', P .. 'lease:' .. lane, unpack(members, i, last))
    for j = i, last do leases[members[j]] = found[j - i + 1] end
  end
end

-- Whether the member (looked up before) is held under that token; if so, its lease ends (written by
-- `flush_closed_leases`). Returns when it was due.
local function close_lease(member, token)
  local lease = leases[member]
  if not lease or closed[member] then return nil end
  local space = string.find(lease, ' ', 1, true)
  if string.sub(lease, 1, space - 1) ~= token then return nil end
  closed[member] = true
  leaving[#leaving + 1] = member
  return tonumber(string.sub(lease, space + 1))
end

local function flush_closed_leases(lane)
  call_many('HDEL', P .. 'lease:' .. lane, leaving)
  call_many('ZREM', P .. 'held:' .. lane, leaving)
  leaving = {}
end

local has_expired = {}

-- Whether any lease of the lane's owed members has expired: hardly ever, so asked once.
local function any_expired(lane)
  if has_expired[lane] == nil then has_expired[lane] = call('EXISTS', P .. 'expiries:' .. lane) == 1 end
  return has_expired[lane]
end

-- Settled for good: forget its expired leases.
local function forget_expiries(lane, member)
  if any_expired(lane) then call('HDEL', P .. 'expiries:' .. lane, member) end
end
