-- What all scripts share: names of keys, the clock, bells, finding a lane's due members.
-- KEYS[1] is the prefix with its colon. Keys are documented in keys.py.

local P = KEYS[1]
local call = redis.call

local PATIENCE = 10000       -- ms that a bell counts as under way; the timer has less (due.lua)
local HELP = 250             -- ms between two calls for help on one lane
local HORIZON = 1000000      -- us ahead that starts are reserved
local MARK = 30 * 86400000   -- ms that an event is recognised after it was last seen
local NEWEST = 90 * 86400    -- s that the newest done job of an order group is remembered
local ENDED = 5              -- ended leases that make a member poison
local ATTEMPTS = 20          -- attempts kept of a job

local function clock_us()
  --CLOCK
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

local T_US = clock_us()
local T = math.floor(T_US / 1000)

local function int(number) return string.format('%.0f', number) end

local NOW, MARK_MS = int(T), int(MARK)  -- as commands take them

local bells = {}

-- Whether work of a lane may start now; if so, ms since it was last rung for or drained, and how many bells have
-- been rung for it since it was last drained.
local function is_open(lane)
  local f = call('HMGET', P .. 'lane:' .. lane, 'wake_at', 'paused', 'ticket', 'cap')
  if f[2] or (f[1] and tonumber(f[1]) > T) then return false end
  if f[4] and call('ZCOUNT', P .. 'held:' .. lane, '(' .. NOW, '+inf') >= tonumber(f[4]) then return false end
  if not f[3] then return true, math.huge, 0 end
  local at, unheard = string.match(f[3], '^(%d+) ?(%d*)$')
  local age = T - tonumber(at)
  return true, age < 0 and math.huge or age, tonumber(unheard) or 0
end

-- Ring for a lane whose work may start now, unless a bell is under way already. While nobody hears, the pauses
-- grow to 32 times the patience, so that bells do not pile up in a broker without workers.
local function ring(lane)
  local open, age, unheard = is_open(lane)
  if not open or age < PATIENCE * 2 ^ math.min(math.max(unheard - 1, 0), 5) then return end
  call('HSET', P .. 'lane:' .. lane, 'ticket', NOW .. ' ' .. (unheard + 1))
  bells[#bells + 1] = lane
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

-- Put off a lane; the later of two reasons wins.
local function put_off(lane, at, reason)
  local lane_key = P .. 'lane:' .. lane
  local old = tonumber(call('HGET', lane_key, 'wake_at') or 0)
  if at > old then call('HSET', lane_key, 'wake_at', int(at), 'reason', reason) end
end

local let_gone, leaving, leases = {}, {}, {}

-- Look up the leases of members that are to be let go, all at once: a call from Lua costs more than what it does.
local function look_up_leases(lane, members)
  for i = 1, #members, 4000 do
    local last = math.min(i + 3999, #members)
    local found = call('HMGET', P .. 'lease:' .. lane, unpack(members, i, last))
    for j = i, last do leases[members[j]] = found[j - i + 1] end
  end
end

-- Whether the member (looked up before) is held under that token; if so, let it go (written by `flush_let_go`).
-- Returns when it was due.
local function let_go(member, token)
  local lease = leases[member]
  if not lease or let_gone[member] then return nil end
  local space = string.find(lease, ' ', 1, true)
  if string.sub(lease, 1, space - 1) ~= token then return nil end
  let_gone[member] = true
  leaving[#leaving + 1] = member
  return tonumber(string.sub(lease, space + 1))
end

local function flush_let_go(lane)
  call_many('HDEL', P .. 'lease:' .. lane, leaving)
  call_many('ZREM', P .. 'held:' .. lane, leaving)
  leaving = {}
end

local lapses = {}

-- Whether any lease of the lane's owed members has ended: hardly ever, so asked once.
local function any_lapsed(lane)
  if lapses[lane] == nil then lapses[lane] = call('EXISTS', P .. 'lapsed:' .. lane) == 1 end
  return lapses[lane]
end

-- Settled for good: forget its ended leases.
local function forget_lapses(lane, member)
  if any_lapsed(lane) then call('HDEL', P .. 'lapsed:' .. lane, member) end
end
