#!lua flags=allow-oom
-- Which of these lanes have work that may start now? (For the timer: it rings, and never processes.)
-- Keys: lane:, due:, held: of the lanes. ARGV: lanes.
-- Returns {lanes to ring, lanes that have had work due for a second, ms until the next is due (at most 1000)}.
--COMMON

PATIENCE = 1000  -- a bell that brought nobody for that long is lost

local waiting, soonest = {}, T + 1000
for _, lane in ipairs(ARGV) do
  local f = call('HMGET', P .. 'lane:' .. lane, 'wake_at', 'paused')
  if not f[2] then
    local wake = tonumber(f[1] or 0)
    local due = call('ZRANGE', P .. 'due:' .. lane, 0, 0, 'WITHSCORES')
    local held = call('ZRANGE', P .. 'held:' .. lane, 0, 0, 'WITHSCORES')
    local at = math.min(tonumber(due[2] or 1e15), tonumber(held[2] or 1e15))
    at = math.max(at, wake)
    if at <= T then
      local open, age = is_open(lane)
      if open and age >= 1000 and at <= T - 1000 then waiting[#waiting + 1] = lane end
      ring(lane)
    else
      soonest = math.min(soonest, at)
    end
  end
end
return { bells, waiting, soonest - T }
