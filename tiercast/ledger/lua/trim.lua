#!lua flags=allow-oom
-- Let go of deliveries whose retention is over, each with its event and jobs. Where there is a history, those are filed
-- ones with a job that kept a place, and what was settled before there was one is owed to it.
-- Then sweep marks and rounds, and go on with what earlier scripts left of large groups.
-- Keys: rewrite, trim, unfiled, rounds, b:, d:, j:, ix:d:, ix:j:, cust:, alias:, unfinished; all of _marks; through _parking
--   what a group of a kept place holds.
-- ARGV: the most to let go, then the retention (ms) of what ended well and of what did not.
-- Returns {how many went or were owed to the history, 1 where groups are left to go on with, bells, now (ms) where it is time to look after the
--   server's append-only file, else 0}. Event marks (m:) and once places stay.
--COMMON
--PARKING
--LEAVING
--MARKS

KEEP, KEEP_DEAD = tonumber(ARGV[2]), tonumber(ARGV[3])

-- A job that may have had its effect keeps its once place for ever, and older ones of its order group end with it.
local function forget_job(job)
  local order, once, arrival, created, digest = groups_of(job)
  local f = call('HMGET', P .. 'j:' .. job, 's', 'm')
  leave_group(order, job, arrival)
  leave_group(once, job, arrival)
  if f[1] == 'uncertain' or (f[1] == 'dead' and f[2]) then
    if order then done_in_order(order, job, created, arrival) end
    if once then done_once(once, digest, job) end
  end
  if order then advance_order(order) end
  if INDEXED[f[1]] then call('ZREM', P .. 'ix:j:' .. f[1], job) end
  -- What is filed is still open there.
  if NEEDS_OPERATOR[f[1]] and not is_filing() then count_open(f[1], about_of(job), -1) end
  call('DEL', P .. 'j:' .. job)
end

local gone = call('ZRANGEBYSCORE', P .. 'trim', '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[1]))
for _, delivery in ipairs(gone) do
  local f = call('HMGET', P .. 'd:' .. delivery, 's', 'src', 'e', 'j', 'c', 'rd')
  if is_filing() then
    note_round(delivery, f[6])
  elseif f[1] == 'quarantined' then
    count_open('quarantined', f[2], -1)
  end
  for _, job in ipairs(jobs_of(f[2], f[3], f[4])) do forget_job(job) end
  forget_delivery(delivery, f[1], f[5])
end
if #gone > 0 then call('HSETNX', P .. 'rewrite', 'left', NOW) end

-- Whether it is time to have the append-only file rewritten, or to see what became of that: who asks first does it, and
-- again after ten minutes; after a day where the server refused.
local function is_time_to_rewrite()
  local f = call('HMGET', P .. 'rewrite', 'left', 'forgot', 'begun', 'asked', 'refused')
  local day = 86400000
  local every = math.min(day, math.max(60000, KEEP))
  if not (f[3] or f[2] or (f[1] and T - tonumber(f[1]) >= every)) then return false end
  local pause = f[5] and day or math.min(600000, every)
  if f[4] and T >= tonumber(f[4]) and T - tonumber(f[4]) < pause then return false end
  call('HSET', P .. 'rewrite', 'asked', NOW)
  return true
end

-- What was settled before there was a history; what has an uncertain job stays.
local function owe_unfiled(most)
  local unfiled = call('ZRANGE', P .. 'unfiled', 0, most - 1)
  for _, delivery in ipairs(unfiled) do
    local f = call('HMGET', P .. 'd:' .. delivery, 's', 'again', 'o', 'q')
    local is_settled = f[1] and not f[2] and tonumber(f[3] or 0) == 0 and tonumber(f[4] or 0) == 0
    if is_settled and not call('ZSCORE', P .. 'held:' .. HISTORY, delivery) then file_at(delivery, T) end
  end
  if #unfiled > 0 then call('ZREM', P .. 'unfiled', unpack(unfiled)) end
  return #unfiled
end

-- Rounds are remembered as long as marks. Few are there, so all are seen in some steps of a hundred.
local function sweep_rounds()
  local cursor = call('HGET', P .. 'meta', 'rounds_cursor') or '0'
  if call('EXISTS', P .. 'rounds') == 0 then return end
  local found = call('HSCAN', P .. 'rounds', cursor, 'COUNT', '100')
  for i = 1, #found[2], 2 do
    local day = tonumber(string.match(found[2][i + 1], '%d+$'))
    if math.floor(T / 86400000) - day > ROUND_DAYS then call('HDEL', P .. 'rounds', found[2][i]) end
  end
  call('HSET', P .. 'meta', 'rounds_cursor', found[1])
end

local unfiled = owe_unfiled(tonumber(ARGV[1]))
sweep_marks()
sweep_rounds()
local more = go_on_with_groups()
flush_families()
ring_woken()
return { math.max(#gone, unfiled), more and 1 or 0, bells, is_time_to_rewrite() and NOW or '0' }
