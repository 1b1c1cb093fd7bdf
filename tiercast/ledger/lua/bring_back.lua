#!lua
-- Bring deliveries back from the history, each with its body, its event and its jobs, as a new round: so that `retry`
-- and `replay` find them. Repeating it brings back nothing twice.
-- Keys: all of _common and _parking; b:, d:, j:, ix:d:, ix:j:, cust:, alias: of the deliveries; due:history; rounds, gone.
-- ARGV[1]: [{k delivery, rd round of its row, s state, at received, c [digest, ...], d [field, value, ...],
--   b 1 where its body follows, jobs: [[job, state, ms when it changed, [field, value, ...]], ...]}, ...], then the bodies
--   of those that have one, in the same order.
-- Returns for each: "back", "here" (the ledger has it), "stale" (the history has a newer round by now: read it again),
--   "told again" (a copy that came when its mark had expired has jobs of the same keys) or "forgotten" (its customer was).
-- What is brought back and not touched within a minute is filed again: whoever asked for it may have died.
--COMMON
--PARKING

local UNTOUCHED = 60000
KEEP, KEEP_DEAD = 0, 0  -- nothing is settled here, so nothing gets a time to leave

-- Whether a customer was forgotten since it was filed. What was told under another name of theirs went with them.
local any_forgotten = call('EXISTS', P .. 'gone') == 1
local function is_forgotten(digests)
  if not any_forgotten or not digests[1] then return false end
  for _, at in ipairs(call('HMGET', P .. 'gone', unpack(digests))) do
    if at then return true end
  end
  return false
end

local function bring_back(family, body)
  local delivery, key = family.k, P .. 'd:' .. family.k
  if call('EXISTS', key, P .. 'b:' .. delivery) > 0 then return 'here' end
  local round = string.match(call('HGET', P .. 'rounds', delivery) or '', '^%d+')
  if round and tonumber(round) ~= family.rd then return 'stale' end
  if is_forgotten(family.c) then return 'forgotten' end
  for _, job in ipairs(family.jobs) do
    if call('EXISTS', P .. 'j:' .. job[1]) == 1 then return 'told again' end
  end
  local bad, undecided = 0, 0
  for _, job in ipairs(family.jobs) do
    call('HSET', P .. 'j:' .. job[1], 's', job[2], 'd', delivery, 'z', int(job[3]), unpack(job[4]))
    if INDEXED[job[2]] then call('ZADD', P .. 'ix:j:' .. job[2], int(job[3]), job[1]) end
    if NEEDS_OPERATOR[job[2]] then bad = bad + 1 end
    if FINAL[job[2]] and not FILED[job[2]] then undecided = undecided + 1 end
  end
  call('HSET', key, 's', family.s, 'rd', int(family.rd + 1), 'x', bad, 'q', undecided, unpack(family.d))
  if body then call('SET', P .. 'b:' .. delivery, body) end
  call('ZADD', P .. 'ix:d:' .. family.s, int(family.at), delivery)
  if family.c[1] then
    call('ZADD', P .. 'cust:' .. family.c[1], int(family.at), delivery)
    for i = 2, #family.c do call('SADD', P .. 'alias:' .. family.c[i], family.c[1]) end
  end
  file_at(delivery, T + UNTOUCHED)
  return 'back'
end

local answers, next_body = {}, 2
for i, family in ipairs(cjson.decode(ARGV[1])) do
  local body
  if family.b then
    body = ARGV[next_body]
    next_body = next_body + 1
  end
  answers[i] = bring_back(family, body)
end
flush_to_file()
return answers
