#!lua flags=allow-oom
-- Let go of deliveries whose retention is over, each with its event and jobs.
-- Then go on with what earlier scripts left of large groups.
-- Keys: rewrite, trim, b:, d:, j:, ix:d:, ix:j:, cust:, alias:, unfinished; through _parking what a group of a kept place holds.
-- ARGV: the most to let go, then the retention (ms) of what ended well and of what did not.
-- Returns {how many went, 1 where groups are left to go on with, bells, now (ms) where it is time to look after the
--   server's append-only file, else 0}. Event marks (m:) and once places stay.
--COMMON
--PARKING
--LEAVING

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
  call('DEL', P .. 'j:' .. job)
end

local gone = call('ZRANGEBYSCORE', P .. 'trim', '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[1]))
for _, delivery in ipairs(gone) do
  local f = call('HMGET', P .. 'd:' .. delivery, 's', 'src', 'e', 'j', 'c')
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

local more = go_on_with_groups()
flush_families()
ring_woken()
return { #gone, more and 1 or 0, bells, is_time_to_rewrite() and NOW or '0' }
