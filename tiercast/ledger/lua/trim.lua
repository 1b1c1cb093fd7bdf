#!lua flags=allow-oom
-- Let go of deliveries whose retention is over, each with its event and jobs.
-- Keys: trim, b:, d:, j:, ix:d:, ix:j:, cust:, alias:; through _parking what a group of a kept place holds.
-- ARGV: the most to let go. Returns {how many went, bells}. Event marks (m:) and once places stay.
--COMMON
--PARKING
--LEAVING

-- A job that may have had its effect keeps its once place for ever, and older ones of its order group end with it.
local function forget_job(job)
  local order, once, arrival, created, digest = groups_of(job)
  local f = call('HMGET', P .. 'j:' .. job, 's', 'm')
  if f[1] == 'uncertain' or (f[1] == 'dead' and f[2]) then
    if order then done_in_order(order, job, created, arrival) end
    if once then done_once(once, digest, job) end
  end
  leave(order, job, arrival)
  leave(once, job, arrival)
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
flush_families()
ring_woken()
return { #gone, bells }
