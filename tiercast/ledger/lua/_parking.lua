-- Jobs: their states, and the groups of those that must not run side by side.
--
-- A job belongs to at most one order group and one once group. It stands in its lane only while it holds the
-- place (s:<group>) of each of its groups; places are taken all at once or not at all, so nobody waits in a ring.
-- Touches j:, d:, p:, k:, s:, n:, once:, unfinished, ix:j:, trim, due:, lane:, lanes, open; through _filing the lane
-- `history`.
--FILING

local KEEP, KEEP_DEAD  -- the retention (ms) of what ended well and of what did not; each script sets it

--STATES job: final indexed needs_operator filed
--STATES delivery: needs_operator

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

-- "<source> <action>" of a job.
local function about_of(job) return string.match(job, '^[^:]*') .. ' ' .. action_of(job) end

local function order_key(action, digest) return 'o:' .. action .. ':' .. digest end
local function once_key(action, digest) return 'c:' .. action .. ':' .. digest end

local families = {}
local fresh = {}  -- deliveries that are on record for the first time: they cannot be about to leave

-- Note that a family has more or fewer jobs open, dead and uncertain, or uncertain; written by `flush_families`.
local function count_family(delivery, open, bad, uncertain)
  local family = families[delivery]
  if not family then
    family = { 0, 0, 0 }
    families[delivery] = family
  end
  family[1] = family[1] + open
  family[2] = family[2] + bad
  family[3] = family[3] + uncertain
end

-- How many of a family's jobs are open, where all that is known of it is that some are: then the caller writes it.
local function take_open(delivery)
  local family = families[delivery]
  if not family or family[1] <= 0 or family[2] ~= 0 then return nil end
  families[delivery] = nil
  return family[1]
end

-- With no job open, and nobody about to replay it, a family is filed; where there is no history, it leaves when its
-- retention is over. One with an uncertain job stays until an operator has decided that.
local function flush_families()
  local leaving_at = {}
  for delivery, family in pairs(families) do
    local key = P .. 'd:' .. delivery
    if family[2] ~= 0 then call('HINCRBY', key, 'x', family[2]) end
    if family[3] ~= 0 then call('HINCRBY', key, 'q', family[3]) end
    local open = family[1] ~= 0 and call('HINCRBY', key, 'o', family[1]) or tonumber(call('HGET', key, 'o') or 0)
    if open > 0 then
      if family[1] > 0 and not fresh[delivery] then call('ZREM', P .. 'trim', delivery) end
    else
      local f = call('HMGET', key, 'x', 's', 'again', 'q')
      if f[3] then
        call('ZREM', P .. 'trim', delivery)
      elseif is_filing() then
        if tonumber(f[4] or 0) == 0 then file_at(delivery, T + FILE_AFTER) end
      else
        local is_bad = tonumber(f[1] or 0) > 0 or DELIVERY_NEEDS_OPERATOR[f[2]]
        leaving_at[#leaving_at + 1] = int(T + (is_bad and KEEP_DEAD or KEEP))
        leaving_at[#leaving_at + 1] = delivery
      end
    end
  end
  call_many('ZADD', P .. 'trim', leaving_at)
  families = {}
  flush_to_file()
  flush_open()
end

-- What is on record of a job that moves, by position: a table with names costs more than reading it.
local STATE, DELIVERY, REASON, TRIES, EFFECT_POSSIBLE, ORDER, ONCE, CREATED = 1, 2, 3, 4, 5, 6, 7, 8

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
  local open = (FINAL[state] and 0 or 1) - ((old and not FINAL[old]) and 1 or 0)
  local bad = (NEEDS_OPERATOR[state] and 1 or 0) - ((old and NEEDS_OPERATOR[old]) and 1 or 0)
  local undecided = (FINAL[state] and not FILED[state] and 1 or 0) - ((old and FINAL[old] and not FILED[old]) and 1 or 0)
  if old and FINAL[old] then reopen(about[DELIVERY]) end
  if NEEDS_OPERATOR[state] then count_open(state, about_of(job), 1) end
  if old and NEEDS_OPERATOR[old] then count_open(old, about_of(job), -1) end
  count_family(about[DELIVERY], open, bad, undecided)
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

-- How many members of groups one script may still visit. The rest of a large group waits in `unfinished` for the next
-- script that calls `go_on_with_groups`: until then its members stay parked, and none of them may stand that may not.
local budget = 300
--BUDGET

-- Note that a group has members left to visit: of an order group by which job they are superseded, of a once group the
-- member after which to go on.
local function postpone(group, detail) call('HSET', P .. 'unfinished', group, detail) end

local function place_free(group, job)
  if not group then return true end
  local holder = call('GET', P .. 's:' .. group)
  return not holder or holder == job
end

-- "<created> <arrival>" of the newest job done in an order group; nil where none is known.
local function newest_done(order)
  local rank = call('GET', P .. 'n:' .. order)
  if not rank then return nil end
  local space = string.find(rank, ' ', 1, true)
  return tonumber(string.sub(rank, 1, space - 1)), string.sub(rank, space + 1)
end

-- How many members of an order group's zset come before the first that is not older than (created, arrival), or, with
-- `beyond`, that is newer. Equal scores are sorted by arrival, which opens the member's name.
local function count_older(key, created, arrival, beyond)
  local score = int(created)
  local low = call('ZCOUNT', key, '-inf', '(' .. score)
  local high = low + call('ZCOUNT', key, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = string.sub(call('ZRANGE', key, middle, middle)[1], 1, 36)
    if other < arrival or (beyond and other == arrival) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- The job of an order group that is next: the newest that waits; of equal times the one that arrived first. Asked while
-- the group's place is free, so all of p: wait. What is older than the newest done is about to be superseded, and what
-- is older than one that may have had its effect is barred: neither is next.
local function newest_waiting(order)
  local p = P .. 'p:' .. order
  local top = call('ZREVRANGE', p, 0, 0, 'WITHSCORES')
  if not top[1] then return nil end
  local created = tonumber(top[2])
  local first = call('ZCOUNT', p, '-inf', '(' .. int(created))
  local done, arrival = newest_done(order)
  if done and done > created then return nil end
  if done == created then first = math.max(first, count_older(p, created, arrival)) end
  local bar = call('ZREVRANGE', P .. 'k:' .. order, 0, 0, 'WITHSCORES')
  if bar[1] then
    local barred = tonumber(bar[2])
    if barred > created then return nil end
    if barred == created then first = math.max(first, count_older(p, created, string.sub(bar[1], 1, 36), true)) end
  end
  local member = call('ZRANGE', p, first, first)[1]
  return member and string.sub(member, 38)
end

-- A job takes the places of its groups (nil for none), and is owed.
local function acquire(job, order, once, about)
  if order then call('SET', P .. 's:' .. order, job) end
  if once then call('SET', P .. 's:' .. once, job) end
  set_state(job, 'owed', nil, about)
  owe('jobs/' .. action_of(job), job)
end

-- Let a parked job take its places and become owed, if all of them are free and its turn has come.
local function try_acquire(job, about)
  about = about or look_up(job)
  local order, once = groups_of(job, about)
  if not (place_free(order, job) and place_free(once, job)) then return false end
  if order and newest_waiting(order) ~= job then return false end
  acquire(job, order, once, about)
  return true
end

-- A job leaves a group. One that bars an order group (k:) is not among those that wait or stand in it (p:).
local function leave_group(group, job, arrival)
  if not group then return end
  if call('ZREM', P .. 'p:' .. group, arrival .. '/' .. job) == 0 then
    call('ZREM', P .. 'k:' .. group, arrival .. '/' .. job)
  end
  if call('GET', P .. 's:' .. group) == job then call('DEL', P .. 's:' .. group) end
end

-- A bar of an order group takes its place in it again, without a look at the others.
local function rejoin(order, job, created, arrival)
  call('ZREM', P .. 'k:' .. order, arrival .. '/' .. job)
  call('ZADD', P .. 'p:' .. order, int(created), arrival .. '/' .. job)
end

-- A member of a group lost its purpose: a parked job is superseded (it stands nowhere, so it holds no place); any other
-- only leaves the group. Returns the job's order group.
local function supersede(group, member, by)
  budget = budget - 1
  local job = string.sub(member, 38)
  local about = look_up(job)
  if about[STATE] ~= 'parked' then
    call('ZREM', P .. 'p:' .. group, member)
    return nil
  end
  local order, once = groups_of(job, about)
  if order then call('ZREM', P .. 'p:' .. order, member) end
  if once then call('ZREM', P .. 'p:' .. once, member) end
  set_state(job, 'superseded', 'by ' .. by, about)
  return order
end

-- Who took a once group's place for ever.
local function taken_by(action, digest)
  return digest and call('HGET', P .. 'once:' .. action, digest)
end

-- Release the next job of an order group whose place is free. Those on the way whose once place is taken lost their
-- purpose.
local function advance_order(order)
  if call('EXISTS', P .. 's:' .. order) == 1 then return end
  while true do
    local job = newest_waiting(order)
    if not job then return end
    local about = look_up(job)
    local by = taken_by(action_of(job), about[ONCE])
    if not by then return try_acquire(job, about) end
    if budget <= 0 then return postpone(order, 'a newer event') end
    supersede(order, about[DELIVERY] .. '/' .. job, by)
  end
end

-- The action and the digest of a once group: "c:<action>:<digest>".
local function parts_of_once(once) return string.match(once, '^c:([^:]*):(.*)$') end

-- Release the next job of a once group whose place is free: of those after a member the first whose turn it is in its
-- order group, too. One whose turn comes later is released by that group.
local function advance_once(once, after)
  if call('EXISTS', P .. 's:' .. once) == 1 or taken_by(parts_of_once(once)) then return end
  local start = after and after ~= '' and '(' .. after or '-'
  local size = 1
  while true do
    local page = call('ZRANGEBYLEX', P .. 'p:' .. once, start, '+', 'LIMIT', 0, size)
    for _, member in ipairs(page) do
      budget = budget - 1
      if try_acquire(string.sub(member, 38)) then return end
    end
    if #page < size then return end
    if budget <= 0 then return postpone(once, page[#page]) end
    start = '(' .. page[#page]
    size = math.min(50, math.max(1, budget))
  end
end

local function older(created, arrival, rank_created, rank_arrival)
  return created < rank_created or (created == rank_created and arrival < rank_arrival)
end

-- A newer one of its order group was done, or its once place is taken: by whom?
local function superseded_by(order, once, digest, action, created, arrival)
  local taken = once and taken_by(action, digest)
  if taken then return taken end
  if order then
    local done, done_arrival = newest_done(order)
    if done and older(created, arrival, done, done_arrival) then return 'a newer event' end
  end
  return nil
end

-- A job that is new, or tried again by an operator, finds its place: owed, parked or superseded.
local function find_place(job)
  local about = look_up(job)
  local order, once, arrival, created, digest = groups_of(job, about)
  local by = superseded_by(order, once, digest, action_of(job), created, arrival)
  if by then return set_state(job, 'superseded', 'by ' .. by, about) end
  if order then call('ZADD', P .. 'p:' .. order, int(created), arrival .. '/' .. job) end
  if once then call('ZADD', P .. 'p:' .. once, 0, arrival .. '/' .. job) end
  if not (order or once) then return acquire(job, nil, nil, about) end
  set_state(job, 'parked', nil, about)
  try_acquire(job)
end

-- Supersede what is older than the newest done of an order group, as many as the budget allows. Returns whether that
-- were all; n: does not expire before.
local function supersede_older(order, by)
  local created, arrival = newest_done(order)
  if not created then return true end
  local bars, n = P .. 'k:' .. order, 0
  if call('EXISTS', bars) == 1 then
    n = count_older(bars, created, arrival)
    local most = math.max(0, math.min(n, budget))
    if most > 0 then call('ZREMRANGEBYRANK', bars, 0, most - 1) end
    budget = budget - most
    n = n - most
  end
  local waiting = count_older(P .. 'p:' .. order, created, arrival)
  local most = math.max(0, math.min(waiting, budget))
  if most > 0 then
    for _, member in ipairs(call('ZRANGE', P .. 'p:' .. order, 0, most - 1)) do
      supersede(order, member, by)
    end
  end
  return n + waiting - most == 0
end

-- Asked while no job stands in the group.
local function done_in_order(order, job, created, arrival)
  local newest, newest_arrival = newest_done(order)
  if not (newest and older(created, arrival, newest, newest_arrival)) then
    call('SET', P .. 'n:' .. order, int(created) .. ' ' .. arrival, 'EX', NEWEST)
  end
  if not supersede_older(order, job) then
    call('PERSIST', P .. 'n:' .. order)
    postpone(order, job)
  end
end

-- Supersede what waits in a once group whose place was taken for ever, as many as the budget allows. Returns whether
-- that were all.
local function supersede_rest(once, by)
  local page = budget > 0 and call('ZRANGE', P .. 'p:' .. once, 0, budget - 1) or {}
  local orders, seen = {}, {}
  for _, member in ipairs(page) do
    local order = supersede(once, member, by)
    if order and not seen[order] then
      seen[order] = true
      orders[#orders + 1] = order
    end
  end
  -- Those may have been next in order groups of their own, and others waited behind them.
  for _, order in ipairs(orders) do advance_order(order) end
  return call('EXISTS', P .. 'p:' .. once) == 0
end

-- The job took the place for ever, and has left the group.
local function done_once(once, digest, job)
  call('HSET', P .. 'once:' .. action_of(job), digest, job)
  if not supersede_rest(once, job) then postpone(once, '') end
end

-- Visit what earlier scripts left of large groups, within the budget. Returns whether more is left.
local function go_on_with_groups()
  local key = P .. 'unfinished'
  if call('EXISTS', key) == 0 then return false end
  local found = call('HSCAN', key, '0', 'COUNT', '10')[2]
  for i = 1, #found, 2 do
    if budget <= 0 then break end
    local group, detail = found[i], found[i + 1]
    call('HDEL', key, group)
    if string.sub(group, 1, 2) == 'o:' then
      if supersede_older(group, detail) then
        call('EXPIRE', P .. 'n:' .. group, NEWEST)
      else
        postpone(group, detail)
      end
      advance_order(group)
    else
      local by = taken_by(parts_of_once(group))
      if not by then
        advance_once(group, detail)
      elseif not supersede_rest(group, by) then
        postpone(group, '')
      end
    end
  end
  return call('EXISTS', key) == 1
end

-- A job ends: state is done, skipped, dead or uncertain. Where its effect is possible, it keeps its once place and bars
-- older ones of its order group, until an operator decides.
local function finish(job, state, reason, effect_possible, about, more)
  about = about or look_up(job)
  local keeps = (state == 'dead' and effect_possible) or state == 'uncertain'
  set_state(job, state, reason, about, more)
  if not (about[ORDER] or about[ONCE]) then return end
  local order, once, arrival, created, digest = groups_of(job, about)
  leave_group(order, job, arrival)
  if keeps then
    if order then call('ZADD', P .. 'k:' .. order, int(created), arrival .. '/' .. job) end
  else
    leave_group(once, job, arrival)
  end
  if state == 'done' then
    if order then done_in_order(order, job, created, arrival) end
    if once then done_once(once, digest, job) end
  end
  if order then advance_order(order) end
  if once and not keeps then advance_once(once) end
end

-- The fields of an attempt, to be written with the job's others: n and a<n>.
local function attempt_fields(job, n, started, duration, outcome, error)
  if n > ATTEMPTS + 1 then call('HDEL', P .. 'j:' .. job, 'a' .. (n - ATTEMPTS)) end
  local text = started .. ' ' .. duration .. ' ' .. outcome
  return { 'n', n, 'a' .. n, error and text .. ' ' .. error or text }
end
