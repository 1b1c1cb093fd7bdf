-- Leaving the ledger: what goes with a job and with a delivery, be it by retention or because a customer is forgotten.
-- Touches j:, ix:j:, due:, held:, lease:, expiries: of a job; d:, b:, ix:d:, trim, cust:, alias: of a delivery; through
-- _parking the groups of a job.

-- "<source>:<event id>:<action>" of all jobs of a delivery, from its fields src, e and j.
local function jobs_of(source, event, names)
  local jobs = {}
  for name in string.gmatch(names or '', '%S+') do jobs[#jobs + 1] = source .. ':' .. event .. ':' .. name end
  return jobs
end

local function forget_customer(delivery, text)
  local digests = {}
  for digest in string.gmatch(text, '%S+') do digests[#digests + 1] = digest end
  local customer = digests[1]
  call('ZREM', P .. 'cust:' .. customer, delivery)
  if call('EXISTS', P .. 'cust:' .. customer) == 1 then return end
  for i = 2, #digests do call('SREM', P .. 'alias:' .. digests[i], customer) end
end

-- The delivery's own keys; its jobs are gone by now, and families are flushed.
local function forget_delivery(delivery, state, digests)
  if digests then forget_customer(delivery, digests) end
  if state then call('ZREM', P .. 'ix:d:' .. state, delivery) end
  call('DEL', P .. 'd:' .. delivery, P .. 'b:' .. delivery)
  call('ZREM', P .. 'trim', delivery)
end
