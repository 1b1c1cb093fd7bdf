-- Marks: by which a copy of an event is recognised, for 30 days after it was last seen.
-- Touches marks, m:.
--
-- A mark is a field of a bucket, the hash m:<number>: 8 bytes of the event's digest -> 2 bytes for the day of its last
-- sight (since 1970) and the delivery that told it first, a UUID in 16 bytes. Small hashes of short fields and values
-- take a third of the memory that a key of its own does. They stay small, since the number of buckets grows with that
-- of the marks, by linear hashing: one bucket is split at a time, so no script ever moves more than one bucket's marks
-- for 64 new ones. A field holds the bits that choose its bucket, so a split needs nothing else.

local find_mark, set_mark, drop_mark, flush_marks, sweep_marks

do
  local MARKS_EACH = 64         -- marks in a bucket on average; far below where a hash leaves its compact form (512)
  local MARKS_FEW = 24          -- on average, below which the last bucket is merged into the one that it came from
  local MARK_DAYS = 30          -- days that an event is recognised after it was last seen, at the least
  local DAY = 86400000
  local TODAY = math.floor(T / DAY)
  local OTHER_FORM = 32768      -- added to the day where the delivery's id is no UUID and stands as text

  local marks

  -- The greatest power of two that is not greater than a number of buckets.
  local function whole_level(buckets)
    local size = 1
    while size * 2 <= buckets do size = size * 2 end
    return size
  end

  local function look_up_marks()
    if not marks then
      local f = call('HMGET', P .. 'marks', 'count', 'buckets')
      local buckets = tonumber(f[2] or 1)
      marks = { count = tonumber(f[1] or 0), buckets = buckets, size = whole_level(buckets), added = 0 }
    end
    return marks
  end

  -- The number of the bucket that marks with this hash are in.
  local function number_of_hash(hash, known)
    local number = hash % (2 * known.size)
    return number < known.buckets and number or hash % known.size
  end

  local function bucket_key(number) return P .. 'm:' .. int(number) end

  -- Where an event's mark stands: bucket and field. An event's id counts within its Voucherify project.
  local function place_of_mark(project, event)
    local hex = redis.sha1hex(#project .. ':' .. project .. event)
    local hash = tonumber(string.sub(hex, 9, 16), 16)
    local field = struct.pack('>I4I4', tonumber(string.sub(hex, 1, 8), 16), hash)
    return bucket_key(number_of_hash(hash, look_up_marks())), field
  end

  local function packed_mark(delivery, day)
    local hex, dashes = string.gsub(delivery, '-', '')
    if dashes ~= 4 or #hex ~= 32 or string.find(hex, '[^0-9a-f]') then
      return struct.pack('>I2', day + OTHER_FORM) .. delivery
    end
    return struct.pack('>I2I4I4I4I4', day, tonumber(string.sub(hex, 1, 8), 16), tonumber(string.sub(hex, 9, 16), 16),
      tonumber(string.sub(hex, 17, 24), 16), tonumber(string.sub(hex, 25, 32), 16))
  end

  local function day_of_mark(value) return struct.unpack('>I2', value) % OTHER_FORM end

  local function delivery_of_mark(value)
    if struct.unpack('>I2', value) >= OTHER_FORM then return string.sub(value, 3) end
    local hex = string.format('%08x%08x%08x%08x', struct.unpack('>I4I4I4I4', value, 3))
    return string.sub(hex, 1, 8) .. '-' .. string.sub(hex, 9, 12) .. '-' .. string.sub(hex, 13, 16) .. '-'
      .. string.sub(hex, 17, 20) .. '-' .. string.sub(hex, 21)
  end

  local function is_stale(value) return TODAY - day_of_mark(value) > MARK_DAYS end

  -- The delivery that told the event first, nil where it is not known; and where its mark stands.
  function find_mark(project, event)
    local bucket, field = place_of_mark(project, event)
    local value = call('HGET', bucket, field)
    if not value or is_stale(value) then return nil, bucket, field end
    return delivery_of_mark(value), bucket, field, day_of_mark(value)
  end

  -- Mark an event as told first by a delivery, and as seen today.
  function set_mark(bucket, field, delivery)
    local known = look_up_marks()
    known.added = known.added + call('HSET', bucket, field, packed_mark(delivery, TODAY))
  end

  function drop_mark(bucket, field)
    local known = look_up_marks()
    known.added = known.added - call('HDEL', bucket, field)
  end

  -- Move what does not belong to a bucket any more, now that there are more or fewer of them.
  local function move_marks(from, known)
    local moved, fields, to = {}, {}, nil
    local entries = call('HGETALL', bucket_key(from))
    for i = 1, #entries, 2 do
      local number = number_of_hash(struct.unpack('>I4', entries[i], 5), known)
      if number ~= from then
        -- A bucket is split into two, and merged into one.
        to = number
        moved[#moved + 1] = entries[i]
        moved[#moved + 1] = entries[i + 1]
        fields[#fields + 1] = entries[i]
      end
    end
    if not to then return end
    call_many('HSET', bucket_key(to), moved)
    call_many('HDEL', bucket_key(from), fields)
  end

  local function resize(known, buckets)
    known.buckets, known.size = buckets, whole_level(buckets)
  end

  local function split_bucket(known)
    local from = known.buckets - known.size
    resize(known, known.buckets + 1)
    move_marks(from, known)
  end

  local function merge_bucket(known)
    local from = known.buckets - 1
    resize(known, from)
    move_marks(from, known)
  end

  -- Count what was added, and split and merge buckets, as many as are called for; a script that adds a hundred marks
  -- splits two at the most.
  function flush_marks(most_merges)
    if not marks or (marks.added == 0 and not most_merges) then return end
    marks.count, marks.added = math.max(0, marks.count + marks.added), 0
    local before = marks.buckets
    while marks.count > MARKS_EACH * marks.buckets and marks.buckets < before + 8 do split_bucket(marks) end
    for _ = 1, most_merges or 0 do
      if marks.buckets == 1 or marks.count >= MARKS_FEW * marks.buckets then break end
      merge_bucket(marks)
    end
    call('HSET', P .. 'marks', 'count', int(marks.count), 'buckets', int(marks.buckets))
  end

  -- Remove marks that have not been seen for long: so many buckets that all are visited once a day, 50 at the most.
  function sweep_marks()
    local f = call('HMGET', P .. 'marks', 'cursor', 'swept')
    local known = look_up_marks()
    local cursor, since = tonumber(f[1] or 0), math.max(0, T - tonumber(f[2] or T))
    local visits = math.min(50, known.buckets, math.ceil(known.buckets * since / DAY))
    if visits > 0 or not f[2] then call('HSET', P .. 'marks', 'swept', NOW) end
    for _ = 1, visits do
      if cursor >= known.buckets then cursor = 0 end
      local bucket, stale = bucket_key(cursor), {}
      local entries = call('HGETALL', bucket)
      for i = 1, #entries, 2 do
        if is_stale(entries[i + 1]) then stale[#stale + 1] = entries[i] end
      end
      call_many('HDEL', bucket, stale)
      known.added = known.added - #stale
      cursor = cursor + 1
    end
    if visits > 0 then call('HSET', P .. 'marks', 'cursor', int(cursor)) end
    flush_marks(visits)
  end
end
