-- Filing: what is settled waits in the lane `history` until a worker has written it to the history.
-- Touches due:, held:, lease:, expiries: of that lane, lanes, meta, trim, rounds, open; d: (rd).
--
-- A delivery stands in the lane only while nothing of it can change: whatever changes it takes it out first, and counts
-- its round up (rd). So a worker that still holds it writes a round that the history knows to be old, and lets go of
-- nothing.

local HISTORY = 'history'     -- the lane
local FILE_AFTER = 1000       -- ms that what is settled waits for company, so that it is filed in batches
local ROUND_DAYS = 30         -- days that the round of a delivery that left is remembered, where it is not the first

local filing

-- Whether what is settled goes to a history; else the ledger keeps it until its retention is over (trim).
local function is_filing()
  if filing == nil then filing = call('HEXISTS', P .. 'meta', 'files') == 1 end
  return filing
end

local to_file = {}

-- Have a delivery filed, from `at` on. No bell: the timer rings once for all that have become due.
local function file_at(delivery, at)
  to_file[#to_file + 1] = int(at)
  to_file[#to_file + 1] = delivery
end

local function flush_to_file()
  if #to_file == 0 then return end
  call_many('ZADD', P .. 'due:' .. HISTORY, to_file)
  call('SADD', P .. 'lanes', HISTORY)
  to_file = {}
end

-- Out of the lane, and out of those that leave by retention.
local function unfile(delivery)
  call('ZREM', P .. 'trim', delivery)
  call('ZREM', P .. 'due:' .. HISTORY, delivery)
  if call('ZREM', P .. 'held:' .. HISTORY, delivery) == 1 then call('HDEL', P .. 'lease:' .. HISTORY, delivery) end
  call('HDEL', P .. 'expiries:' .. HISTORY, delivery)
end

local reopened = {}

-- Something settled is about to change: whoever files it now must not let go of it.
local function reopen(delivery)
  if reopened[delivery] then return end
  reopened[delivery] = true
  call('HINCRBY', P .. 'd:' .. delivery, 'rd', 1)
  unfile(delivery)
end

-- Remember the round of a delivery that leaves (none where it is the first): a row of an older one is not brought back.
local function note_round(delivery, round)
  if round and tonumber(round) > 0 then
    call('HSET', P .. 'rounds', delivery, int(tonumber(round)) .. ' ' .. int(math.floor(T / 86400000)))
  end
end

local opened = {}

-- Count what needs an operator and is still open: dead and uncertain jobs of a source and action, quarantined deliveries
-- of a source. Written by `flush_open`.
local function count_open(state, about, change)
  local field = state .. ' ' .. about
  opened[field] = (opened[field] or 0) + change
end

local function flush_open()
  for field, change in pairs(opened) do
    if change ~= 0 and call('HINCRBY', P .. 'open', field, change) <= 0 then call('HDEL', P .. 'open', field) end
  end
  opened = {}
end
