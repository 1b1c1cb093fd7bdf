-- Jobs: their states, and the groups of those that must not run side by side.
--
-- A job belongs to at most one order group and one once group. It stands in its lane only while it holds the
-- place (s:<group>) of each of its groups; places are taken all at once or not at all, so nobody waits in a ring.
-- Touches j:, d:, p:, s:, n:, once:, ix:j:, trim, due:, lane:, lanes.

local KEEP, KEEP_DEAD = 7 * 86400000, 30 * 86400000  -- replaced by the caller's retention

local INDEXED = { parked = true, skipped = true, superseded = true, dead = true, uncertain = true }
local SETTLED = { done = true, skipped = true, superseded = true, dead = true, uncertain = true }
local BAD = { dead = true, uncertain = true }

local actions = {}

-- "<source>:<event id>:<action>[:rN]" -> "<action>"
local function action_of(job)
  local action = actions[job]
  if not action then
    local head, tail = string.match(job, '^(.*):([^:]*)$')
    action = string.find(tail, '^r%d+$') and string.match(head, '^.*:([^:]*)$') or tail
    actions[job] = action
  end
  return action
end

local function order_key(action, digest) return 'o:' .. action .. ':' .. digest end
local function once_key(action, digest) return 'c:' .. action .. ':' .. digest end

local families = {}
local fresh = {}  -- deliveries that are on record for the first time: they cannot be about to leave

-- Note that a family has more or fewer jobs open, or dead and uncertain; written by `flush_families`.
local function count_family(delivery, open, bad)
  local family = families[delivery]
  if not family then
    family = { 0, 0 }
    families[delivery] = family
  end
  family[1] = family[1] + open
  family[2] = family[2] + bad
end

-- How many of a family's jobs are open, where all that is known of it is that some are: then the caller writes it.
local function take_open(delivery)
  local family = families[delivery]
  if not family or family[1] <= 0 or family[2] ~= 0 then return nil end
  families[delivery] = nil
  return family[1]
end

-- With no job open, and nobody about to replay it, a family leaves when its retention is over.
local function flush_families()
  local leaving_at = {}
  for delivery, family in pairs(families) do
    local key = P .. 'd:' .. delivery
    if family[2] ~= 0 then call('HINCRBY', key, 'x', family[2]) end
    local open = family[1] ~= 0 and call('HINCRBY', key, 'o', family[1]) or tonumber(call('HGET', key, 'o') or 0)
    if open > 0 then
      if family[1] > 0 and not fresh[delivery] then call('ZREM', P .. 'trim', delivery) end
    else
      local f = call('HMGET', key, 'x', 's', 'again')
      if f[3] then
        call('ZREM', P .. 'trim', delivery)
      else
        local is_bad = tonumber(f[1] or 0) > 0 or f[2] == 'quarantined'
        leaving_at[#leaving_at + 1] = int(T + (is_bad and KEEP_DEAD or KEEP))
        leaving_at[#leaving_at + 1] = delivery
      end
    end
  end
  call_many('ZADD', P .. 'trim', leaving_at)
  families = {}
end

-- What is on record of a job that moves, by position: a table with names costs more than reading it.
local STATE, DELIVERY, REASON, TRIES, MAYBE, ORDER, ONCE, CREATED = 1, 2, 3, 4, 5, 6, 7, 8

local function look_up(job)
  return call('HMGET', P .. 'j:' .. job, 's', 'd', 'r', 'n', 'm', 'og', 'cg', 'us')
end

-- Move a job to a state; `about` is what was looked up of it (of a new one its delivery), `more` are further fields
-- to write.
local function set_state(job, state, reason, about, more)
  local key = P .. 'j:' .. job
  about = about or look_up(job)
  local old = about[STATE]
  if old and INDEXED[old] then call('ZREM', P .. 'ix:j:' .. old, job) end
  if INDEXED[state] then call('ZADD', P .. 'ix:j:' .. state, NOW, job) end
  if reason then
    call('HSET', key, 's', state, 'z', NOW, 'r', reason, unpack(more or {}))
  else
    if about[REASON] then call('HDEL', key, 'r') end
    call('HSET', key, 's', state, 'z', NOW, unpack(more or {}))
  end
  local open = (SETTLED[state] and 0 or 1) - ((old and not SETTLED[old]) and 1 or 0)
  local bad = (BAD[state] and 1 or 0) - ((old and BAD[old]) and 1 or 0)
  count_family(about[DELIVERY], open, bad)
end

-- The groups of a job (order, once), its arrival, when it was created, and the digest of its once group.
local function groups_of(job, about)
  about = about or look_up(job)
  local order, digest = about[ORDER], about[ONCE]
  -- "<created>", or "<created> <rank>" where the event itself says what stands in for its arrival.
  local created, rank = string.match(about[CREATED] or '0', '^(%d+) ?(.*)$')
  return order and order_key(action_of(job), order), digest and once_key(action_of(job), digest),
    rank ~= '' and rank or about[DELIVERY], tonumber(created), digest
end

local function place_free(group, job)
  if not group then return true end
  local holder = call('GET', P .. 's:' .. group)
  return not holder or holder == job
end

-- The job of an order group that is next: the newest that waits; of equal times the one that arrived first.
-- One that may have had its effect bars those that are older, be it by arrival alone.
local function newest_waiting(group)
  local top = call('ZREVRANGE', P .. 'p:' .. group, 0, 0, 'WITHSCORES')
  if not top[1] then return nil end
  local first
  for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'p:' .. group, top[2], top[2])) do
    local job = string.sub(member, 38)
    if call('HGET', P .. 'j:' .. job, 's') == 'parked' then
      first = first or job
    else
      first = nil
    end
  end
  return first
end

local function stand(job, order, once)
  if order then call('SET', P .. 's:' .. order, job) end
  if once then call('SET', P .. 's:' .. once, job) end
  set_state(job, 'owed')
  owe('jobs/' .. action_of(job), job)
end

-- Let a parked job stand if all its places are free and its turn has come.
local function try_stand(job)
  local order, once = groups_of(job)
  if not (place_free(order, job) and place_free(once, job)) then return false end
  if order and newest_waiting(order) ~= job then return false end
  stand(job, order, once)
  return true
end

local function advance_order(group)
  if call('EXISTS', P .. 's:' .. group) == 1 then return end
  local job = newest_waiting(group)
  if job then try_stand(job) end
end

local function advance_once(group)
  if call('EXISTS', P .. 's:' .. group) == 1 then return end
  for _, member in ipairs(call('ZRANGE', P .. 'p:' .. group, 0, -1)) do
    local job = string.sub(member, 38)
    if call('HGET', P .. 'j:' .. job, 's') == 'parked' and try_stand(job) then return end
  end
end

local function leave(group, job, arrival)
  if not group then return end
  call('ZREM', P .. 'p:' .. group, arrival .. '/' .. job)
  if call('GET', P .. 's:' .. group) == job then call('DEL', P .. 's:' .. group) end
end

-- A parked job that lost its purpose.
local function supersede(job, by)
  local order, once, arrival = groups_of(job)
  leave(order, job, arrival)
  leave(once, job, arrival)
  set_state(job, 'superseded', 'by ' .. by)
end

local function older(created, arrival, rank)
  local space = string.find(rank, ' ', 1, true)
  local us, other = tonumber(string.sub(rank, 1, space - 1)), string.sub(rank, space + 1)
  return created < us or (created == us and arrival < other)
end

-- A newer one of its order group was done, or its once place is taken: by whom?
local function superseded_by(order, once, digest, action, created, arrival)
  if once then
    local taken = call('HGET', P .. 'once:' .. action, digest)
    if taken then return taken end
  end
  if order then
    local rank = call('GET', P .. 'n:' .. order)
    if rank and older(created, arrival, rank) then return 'a newer event' end
  end
  return nil
end

-- A job that is new, or tried again by an operator, finds its place: owed, parked or superseded.
local function enter(job)
  local order, once, arrival, created, digest = groups_of(job)
  local by = superseded_by(order, once, digest, action_of(job), created, arrival)
  if by then return set_state(job, 'superseded', 'by ' .. by) end
  if order then call('ZADD', P .. 'p:' .. order, int(created), arrival .. '/' .. job) end
  if once then call('ZADD', P .. 'p:' .. once, 0, arrival .. '/' .. job) end
  if not (order or once) then return stand(job) end
  set_state(job, 'parked')
  try_stand(job)
end

local function done_in_order(group, job, created, arrival)
  local rank = call('GET', P .. 'n:' .. group)
  if not (rank and older(created, arrival, rank)) then
    call('SET', P .. 'n:' .. group, int(created) .. ' ' .. arrival, 'EX', NEWEST)
  end
  local found = call('ZRANGEBYSCORE', P .. 'p:' .. group, '-inf', int(created), 'WITHSCORES')
  for i = 1, #found, 2 do
    local member, other = found[i], string.sub(found[i], 38)
    if tonumber(found[i + 1]) < created or string.sub(member, 1, 36) < arrival then
      if call('HGET', P .. 'j:' .. other, 's') == 'parked' then
        supersede(other, job)
      else
        call('ZREM', P .. 'p:' .. group, member)
      end
    end
  end
end

local function done_once(group, digest, job)
  call('HSET', P .. 'once:' .. action_of(job), digest, job)
  local orders = {}
  for _, member in ipairs(call('ZRANGE', P .. 'p:' .. group, 0, -1)) do
    local other = string.sub(member, 38)
    if other ~= job and call('HGET', P .. 'j:' .. other, 's') == 'parked' then
      orders[#orders + 1] = groups_of(other) or nil
      supersede(other, job)
    end
  end
  -- Those may have been next in order groups of their own, and others waited behind them.
  for _, order in ipairs(orders) do advance_order(order) end
end

-- A job ends: state is done, skipped, dead or uncertain. With `maybe` its effect is possible, so it keeps its
-- once place and bars older ones of its order group, until an operator decides.
local function finish(job, state, reason, maybe, about, more)
  about = about or look_up(job)
  local keeps = (state == 'dead' and maybe) or state == 'uncertain'
  set_state(job, state, reason, about, more)
  if not (about[ORDER] or about[ONCE]) then return end
  local order, once, arrival, created, digest = groups_of(job, about)
  if state == 'done' then
    if order then done_in_order(order, job, created, arrival) end
    if once then done_once(once, digest, job) end
  end
  if keeps then
    if order and call('GET', P .. 's:' .. order) == job then call('DEL', P .. 's:' .. order) end
  else
    leave(order, job, arrival)
    leave(once, job, arrival)
  end
  if order then advance_order(order) end
  if once and not keeps then advance_once(once) end
end

-- The fields of an attempt, to be written with the job's others: n and a<n>.
local function attempt_fields(job, n, started, duration, outcome, error)
  if n > ATTEMPTS then call('HDEL', P .. 'j:' .. job, 'a' .. (n - ATTEMPTS)) end
  local told = started .. ' ' .. duration .. ' ' .. outcome
  return { 'n', n, 'a' .. n, error and told .. ' ' .. error or told }
end
