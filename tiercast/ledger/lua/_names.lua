-- Names: which digests stand for one customer, so that an event that names them otherwise finds the groups of those
-- that came before. Kept for ever, as once places are; only customers of actions with `once` or `order` are here.
-- Touches same:, alias:.
--
-- A name is the digest of an id, a source id or an email; that of an id ends in "i". Where an event names a customer by
-- several, the strongest is the customer's own, and each of the others is noted as belonging to it:
--   "=<name>"           it belongs to that stronger name
--   "*"                 it belongs to several customers' ids, so it says nothing
--   "+<name><name>..."  a customer's own name; groups may stand under these names of theirs as well, since an event that
--                       knew them only so came first. "+" alone: groups may stand under it

local NAME = 16  -- characters of a name
local MOST_OTHERS = 8  -- of the names under which groups of one customer may stand

local function bucket_of(name) return P .. 'same:' .. string.sub(name, 1, 3), string.sub(name, 4) end

local function note_of(name)
  local bucket, field = bucket_of(name)
  return call('HGET', bucket, field)
end

local function set_note(name, note)
  local bucket, field = bucket_of(name)
  call('HSET', bucket, field, note)
end

local function is_id(name) return string.sub(name, -1) == 'i' end

-- What the index of deliveries says of a name of which nothing is noted: the one customer whose id it was told with, or
-- else the one stronger name.
local function told_with(name)
  if is_id(name) then return nil end
  local ids, others = {}, {}
  for _, other in ipairs(call('SMEMBERS', P .. 'alias:' .. name)) do
    local found = is_id(other) and ids or others
    found[#found + 1] = other
  end
  if #ids > 1 then return '*' end
  local only = ids[1] or (#others == 1 and others[1])
  return only and '=' .. only or nil
end

-- The strongest name that this one is known to belong to, what is noted there, and whether anything is of this one.
local function own_name(name)
  local note = note_of(name)
  local is_noted = note and true
  note = note or told_with(name)
  for _ = 1, 3 do
    if not note or string.sub(note, 1, 1) ~= '=' then break end
    name = string.sub(note, 2)
    note = note_of(name)
  end
  return name, note, is_noted
end

-- Add a name, and those noted with it, to what is noted of a customer's own name.
local function with_other(note, other, its_note)
  local known = note and string.sub(note, 2) or ''
  local added = other .. (its_note and string.sub(its_note, 2) or '')
  for i = 1, #added, NAME do
    local one = string.sub(added, i, i + NAME - 1)
    if #known < MOST_OTHERS * NAME and not string.find(known, one, 1, true) then known = known .. one end
  end
  return '+' .. known
end

-- All names under which groups of an event's customer may stand, the own one first. `names` are the event's, the
-- strongest first; what they tell of one another is noted.
local function names_of_customer(names)
  local own, note, is_noted = own_name(names[1])
  local before = note
  if own ~= names[1] and not is_noted then set_note(names[1], '=' .. own) end
  if note == '*' then note = nil end
  for i = 2, #names do
    local name = names[i]
    local other, its_note, its_noted = own_name(name)
    if its_note == '*' then
      -- Several customers have it.
    elseif other == own then
      if name ~= own and not its_noted then set_note(name, '=' .. own) end
    elseif other == name and not its_note then
      set_note(name, '=' .. own)
    elseif not is_id(other) then
      -- An event that knew this customer by no stronger name came first.
      note = with_other(note, other, its_note)
      set_note(other, '=' .. own)
      if other ~= name then set_note(name, '=' .. own) end
    elseif is_id(own) then
      set_note(name, '*')
    else
      -- This name is that of a known id, so the stronger name is, too.
      set_note(own, '=' .. other)
      own, before, note = other, its_note, note and with_other(its_note, own, note) or its_note
    end
  end
  -- A name that is no id may turn out to belong to one later, and must then be found.
  if not note and not is_id(own) and before ~= '*' then note = '+' end
  if note and note ~= before then set_note(own, note) end
  local all = { own }
  for i = 2, note and #note or 0, NAME do all[#all + 1] = string.sub(note, i, i + NAME - 1) end
  return all
end

-- A group's digest under the name that has one already, be it that a job waits, was done or may have been; else under
-- the customer's own. `digest` begins with a name; `exists` tells whether a digest has a group.
local function digest_of_customer(digest, all, exists)
  local rest = string.sub(digest, NAME + 1)
  for _, name in ipairs(all) do
    if #all > 1 and exists(name .. rest) then return name .. rest end
  end
  return all[1] .. rest
end

local function forget_name(name)
  local bucket, field = bucket_of(name)
  call('HDEL', bucket, field)
end
