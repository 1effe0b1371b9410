-- The part of the sandbox that is Lua: read-only tables, globals that do not see through them, and protected calls that
-- cannot catch the time limit. The host calls it once, with functions of its own.

local host = ...

local raw_get, raw_len, raw_next, raw_set, raw_equal = rawget, rawlen, next, rawset, rawequal
local raw_xpcall, raw_load = xpcall, load
local move, yield, raw_resume, raw_close = table.move, coroutine.yield, coroutine.resume, coroutine.close
local raw_setmetatable, raw_getmetatable = setmetatable, getmetatable
local error, type, select = error, type, select

-- A frozen table holds its contents under a key that no script has. The contents of a lazy record hold its handle.
local CONTENTS, HANDLE = {}, {}

-- A list that no script has looked at holds the handle of its items under this key. Until then it costs nothing.
local UNREAD = {}

-- Makes the items of a handle: a list that no script sees.
local items_of

-- Puts its items into a list that a script begins to look at; any other value stays as it is.
local function look_at(list)
  local handle = type(list) == "table" and raw_get(list, UNREAD)
  if handle then
    local items = items_of(handle)
    raw_setmetatable(list, nil)
    -- If memory ends in here, the list still counts as unread, and not as a shorter one.
    move(items, 1, #items, 1, list)
    raw_set(list, UNREAD, nil)
  end
  return list
end

local unread = {
  __index = function(list, key) return look_at(list)[key] end,
  __newindex = function(list, key, value) look_at(list)[key] = value end,
  __len = function(list) return #look_at(list) end,
  __pairs = function(list) return next, look_at(list), nil end,
}

-- The contents of a frozen table, with all lazy fields made; nil for any other table.
local function contents(t)
  local held = type(look_at(t)) == "table" and raw_get(t, CONTENTS) or nil
  local fill = held and raw_getmetatable(held) and raw_getmetatable(held).fill
  if fill then fill(held) end
  return held
end

function next(t, key)
  local held = contents(t)
  if not held then return raw_next(t, key) end
  local name, value = raw_next(held, key)
  if name == HANDLE then name, value = raw_next(held, name) end
  return name, value
end

function rawget(t, key)
  return raw_get(contents(t) or t, key)
end

function rawlen(t)
  return raw_len(contents(t) or t)
end

function getmetatable(t)
  return raw_getmetatable(look_at(t))
end

-- Finalizers are refused: Lua calls them where no time limit can stop them.
function setmetatable(t, metatable)
  if type(metatable) == "table" and raw_get(metatable, "__gc") ~= nil then
    error("a metatable cannot have `__gc` here", 2)
  end
  return raw_setmetatable(look_at(t), metatable)
end

function rawset(t, key, value)
  if contents(t) then error("this table is read-only", 2) end
  return raw_set(t, key, value)
end

local frozen = {
  __metatable = "read-only",
  __index = function(t, key) return t[CONTENTS][key] end,
  __newindex = function(_, key) error("this table is read-only: `" .. tostring(key) .. "` cannot be set", 2) end,
  -- Without it, Lua would call the `__eq` of the other table.
  __eq = raw_equal,
  __len = function(t) return #t[CONTENTS] end,
  -- As `next` does, with one look at the contents for all steps.
  __pairs = function(t)
    local held = contents(t)
    return function(_, key)
      local name, value = raw_next(held, key)
      if name == HANDLE then name, value = raw_next(held, name) end
      return name, value
    end, t, nil
  end,
}

local function freeze(t)
  return raw_setmetatable({ [CONTENTS] = t }, frozen)
end

local function places(list)
  local places = {}
  for place, item in ipairs(list) do places[item] = place end
  return places
end

-- The metatable of a record, a table in which a misspelt field is an error and not nil.
local function record(kind, fields)
  local known = places(fields)
  return {
    __index = function(_, field)
      if not known[field] then error(kind .. " has no field `" .. tostring(field) .. "`", 3) end
    end,
  }
end

-- A function that makes a record of a handle. `make` makes a field of the handle, by the field's place in the list,
-- when it is first read.
local function lazy(kind, fields, make)
  local known = places(fields)
  local function get(t, field)
    local place = known[field]
    if not place then error(kind .. " has no field `" .. tostring(field) .. "`", 3) end
    local value = make(raw_get(t, HANDLE), place)
    raw_set(t, field, value)
    return value
  end
  local function fill(t)
    for _, field in ipairs(fields) do
      if raw_get(t, field) == nil then get(t, field) end
    end
  end
  local metatable = { __index = get, fill = fill }
  return function(handle)
    return freeze(raw_setmetatable({ [HANDLE] = handle }, metatable))
  end
end

-- Drops the fields of a lazy record that were made. They are made again when they are read.
local function slim(t)
  local held = raw_get(t, CONTENTS)
  raw_set(t, CONTENTS, raw_setmetatable({ [HANDLE] = raw_get(held, HANDLE) }, raw_getmetatable(held)))
end

local function in_time(...)
  host.check_time()
  return ...
end

-- An error of a module's is a text with a position, so that a script that catches it can go on with it.
function pcall(f, ...)
  return in_time(raw_xpcall(f, host.told, ...))
end

function xpcall(f, handler, ...)
  return in_time(raw_xpcall(f, function(why) return handler(host.told(why)) end, ...))
end

local function told(went_well, why, ...)
  if went_well then return true, why, ... end
  return false, host.told(why)
end

function coroutine.resume(...) return told(raw_resume(...)) end
function coroutine.close(...) return told(raw_close(...)) end

-- Bytecode is refused: Lua does not verify it, and crafted bytecode breaks out of any sandbox.
function load(chunk, name, _, ...)
  if select("#", ...) == 0 then return raw_load(chunk, name, "t") end
  return raw_load(chunk, name, "t", (...))
end

-- Moves items `from + 1` … `length` to `to + 1`.
local function splice(list, from, to, length)
  move(list, from + 1, length, to + 1)
  for place = length - from + to + 1, length do list[place] = nil end
end

-- The body of a coroutine that works once each time it is resumed. The host takes the time limit off it, which makes
-- loops over all containers several times as fast.
local function repeated(work)
  return function(list, other, length)
    while true do
      local result = work(list, other, length)
      -- While it waits, it keeps no table alive.
      list, other = nil, nil
      list, other, length = yield(result)
    end
  end
end

-- Whether a table without a metatable has the same `length` items as a list.
local same = repeated(function(list, other, length)
  for place = 1, length do
    if list[place] ~= other[place] then return false end
  end
  return other[length + 1] == nil
end)

-- Whether a list has the same texts as a copy of it.
local function same_texts(list, copy)
  list = contents(list) or list
  for place = 1, #copy + 1 do
    if not raw_equal(raw_get(list, place), copy[place]) then return false end
  end
  return true
end

-- Whether a table of servers is as its copy. Of its tables, `lines` is compared, and another must be read-only.
local function same_servers(servers, copy)
  servers = contents(servers) or servers
  for field, value in raw_next, servers do
    local known = copy[field]
    if field == "lines" and type(value) == "table" and type(known) == "table" then
      if not same_texts(value, known) then return false end
    elseif not raw_equal(value, known) or type(value) == "table" and not contents(value) then
      return false
    end
  end
  for field in raw_next, copy do
    if raw_get(servers, field) == nil then return false end
  end
  return true
end

-- Whether no script can change a table or the tables in it.
local function is_constant(t)
  local held = contents(t)
  for _, value in raw_next, held or t do
    if type(value) == "table" and not contents(value) then return false end
  end
  return held ~= nil
end

-- A copy of a table and of the list `lines` in it; any other value, and a constant, is its own copy.
local function copied(piece)
  if type(piece) ~= "table" or is_constant(piece) then return piece end
  local copy = {}
  for field, value in raw_next, contents(piece) or piece do copy[field] = value end
  if type(copy.lines) == "table" then
    local lines = {}
    for place, line in raw_next, contents(copy.lines) or copy.lines do lines[place] = line end
    copy.lines = lines
  end
  return copy
end

-- Compares the pieces of a text with the copies in `known`, which then has copies of these pieces. Returns the places
-- that differ, with the number of all in `length`.
local differences = repeated(function(pieces, known)
  local places, place = {}, 1
  local piece = raw_get(pieces, place)
  while piece ~= nil do
    local copy = known[place]
    local is_same = raw_equal(piece, copy)
    if not is_same and type(piece) == "table" and type(copy) == "table" and not contents(copy) then
      is_same = same_servers(piece, copy)
    end
    if not is_same then
      places[#places + 1] = place
      known[place] = copied(piece)
    end
    place = place + 1
    piece = raw_get(pieces, place)
  end
  places.length = place - 1
  while known[place] ~= nil do
    known[place] = nil
    place = place + 1
  end
  return places
end)

return {
  copy = function(list, empty, length) move(list, 1, length, 1, empty) end,
  differences = differences,
  splice = splice,
  same = same,
  slim = slim,
  contents = function(t)
    local held = contents(t)
    if not held or raw_get(held, HANDLE) == nil then return held or t end
    local plain = {}
    for key, value in raw_next, held do
      if key ~= HANDLE then plain[key] = value end
    end
    return plain
  end,
  -- The handle of a lazy record; nil for any other table.
  handle = function(t)
    local held = raw_get(t, CONTENTS)
    return held and raw_get(held, HANDLE)
  end,
  -- A function that makes an unread list of a handle. `items` makes its items when a script looks at it.
  unread = function(items)
    items_of = items
    return function(handle) return raw_setmetatable({ [UNREAD] = handle }, unread) end
  end,
  -- The handle of a list that is still unread; nil for any other table.
  unread_handle = function(list) return raw_get(list, UNREAD) end,
  freeze = freeze,
  -- A read-only copy of a table; one that is read-only is its own copy.
  read_only = function(t)
    if type(t) ~= "table" then error("proxy.read_only takes a table", 2) end
    if contents(t) then return t end
    local copy = {}
    for key, value in raw_next, t do copy[key] = value end
    return freeze(copy)
  end,
  array = { __name = "list" },
  record = record,
  lazy = lazy,
  protected = function(f, ...) return raw_xpcall(f, host.blame, ...) end,
}
