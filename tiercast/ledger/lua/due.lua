#!lua flags=allow-oom
-- Which of these lanes have work that may start now? (For the timer: it rings, and never processes.)
-- Keys: lane:, due:, held:, expiries: of the lanes. ARGV: lanes.
-- Returns {lanes to ring, lanes that were rung for a second ago and in vain, ms until the next is due (at most 1000),
--   lanes with due members that need isolation, now in ms}.
--COMMON

PATIENCE = 1000  -- a bell that brought nobody for that long is lost

-- Whether a due member of the lane has lost its lease twice or more. Few have, so 100 are looked at.
local function needs_isolation(lane)
  if not any_expired(lane) then return false end
  local looked = 0
  local counts = call('HGETALL', P .. 'expiries:' .. lane)
  for i = 1, #counts, 2 do
    if tonumber(counts[i + 1]) >= 2 and looked < 100 then
      looked = looked + 1
      local at = call('ZSCORE', P .. 'due:' .. lane, counts[i])
      if at and tonumber(at) <= T then return true end
    end
  end
  return false
end

local waiting, isolated, soonest = {}, {}, T + 1000
for _, lane in ipairs(ARGV) do
  local state = lane_state(lane)
  if not state.paused then
    local due = call('ZRANGE', P .. 'due:' .. lane, 0, 0, 'WITHSCORES')
    local held = call('ZRANGE', P .. 'held:' .. lane, 0, 0, 'WITHSCORES')
    local at = math.min(tonumber(due[2] or 1e15), tonumber(held[2] or 1e15))
    at = math.max(at, state.hold_until or 0)
    if at <= T then
      local age, unheard = bell_under_way(state)
      if age and age >= 1000 and unheard > 0 and is_open(lane, state) then waiting[#waiting + 1] = lane end
      ring(lane)
      if due[2] and needs_isolation(lane) then isolated[#isolated + 1] = lane end
    else
      soonest = math.min(soonest, at)
    end
  end
end
return { bells, waiting, soonest - T, isolated, NOW }
