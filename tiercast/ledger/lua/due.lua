#!lua flags=allow-oom
-- Which of these lanes have work that may start now? (For the timer: it rings, and never processes.)
-- Keys: lane:, due:, held: of the lanes. ARGV: ms that count as soon, lanes.
-- Returns {lanes to ring, lanes that were rung for a second ago and in vain, ms until the next is due (at most 1000), lanes
--   with a lease that ends soon}.
--COMMON

PATIENCE = 1000  -- a bell that brought nobody for that long is lost

local waiting, lapsing, soonest = {}, {}, T + 1000
for i = 2, #ARGV do
  local lane = ARGV[i]
  local f = call('HMGET', P .. 'lane:' .. lane, 'wake_at', 'paused')
  if not f[2] then
    local wake = tonumber(f[1] or 0)
    local due = call('ZRANGE', P .. 'due:' .. lane, 0, 0, 'WITHSCORES')
    local held = call('ZRANGE', P .. 'held:' .. lane, 0, 0, 'WITHSCORES')
    local at = math.min(tonumber(due[2] or 1e15), tonumber(held[2] or 1e15))
    at = math.max(at, wake)
    if held[2] and tonumber(held[2]) <= T + tonumber(ARGV[1]) then lapsing[#lapsing + 1] = lane end
    if at <= T then
      local open, age, unheard = is_open(lane)
      if open and age >= 1000 and unheard > 0 then waiting[#waiting + 1] = lane end
      ring(lane)
    else
      soonest = math.min(soonest, at)
    end
  end
end
return { bells, waiting, soonest - T, lapsing }
