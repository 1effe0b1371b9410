-- What the sandbox needs to say in Lua itself: read-only tables, the globals that must not see through them, and
-- protected calls that a time limit cannot be caught by. The host calls it once, with its own functions.

local host = ...

local raw_get, raw_len, raw_next, raw_set, raw_equal = rawget, rawlen, next, rawset, rawequal
local raw_pcall, raw_xpcall, raw_load = pcall, xpcall, load
local move, yield = table.move, coroutine.yield
local raw_setmetatable, getmetatable = setmetatable, getmetatable
local error, type, select = error, type, select

-- A frozen table holds its contents under a key that no policy has, and a container's contents the container itself.
local CONTENTS, HANDLE = {}, {}

-- What a frozen table holds, with all that would be made on demand; nil for any other.
local function contents(t)
  local held = type(t) == "table" and raw_get(t, CONTENTS) or nil
  local fill = held and getmetatable(held) and getmetatable(held).fill
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

-- Lua calls finalizers where no time limit can stop them.
function setmetatable(t, metatable)
  if type(metatable) == "table" and raw_get(metatable, "__gc") ~= nil then
    error("a metatable cannot have `__gc` here", 2)
  end
  return raw_setmetatable(t, metatable)
end

function rawset(t, key, value)
  if contents(t) then error("this table is read-only", 2) end
  return raw_set(t, key, value)
end

local frozen = {
  __metatable = "read-only",
  __index = function(t, key) return raw_get(t, CONTENTS)[key] end,
  __newindex = function(_, key) error("this table is read-only: `" .. tostring(key) .. "` cannot be set", 2) end,
  -- No other table's own comparison is asked.
  __eq = raw_equal,
  __len = function(t) return #raw_get(t, CONTENTS) end,
  __pairs = function(t) return next, t, nil end,
}

local function freeze(t)
  return raw_setmetatable({ [CONTENTS] = t }, frozen)
end

local function set_of(list)
  local set = {}
  for _, item in ipairs(list) do set[item] = true end
  return set
end

-- Records: tables whose fields are known, so that a misspelt one is an error and not nil.
local function record(kind, fields)
  local known = set_of(fields)
  return {
    __index = function(_, field)
      if not known[field] then error(kind .. " has no field `" .. tostring(field) .. "`", 3) end
    end,
  }
end

-- A record whose fields `make` makes of its handle when they are first asked for.
local function lazy(kind, fields, make)
  local known = set_of(fields)
  local function get(t, field)
    if not known[field] then error(kind .. " has no field `" .. tostring(field) .. "`", 3) end
    local value = make(raw_get(t, HANDLE), field)
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

-- Lets go of all that was made of a record's handle on demand.
local function slim(t)
  local held = raw_get(t, CONTENTS)
  raw_set(t, CONTENTS, raw_setmetatable({ [HANDLE] = raw_get(held, HANDLE) }, getmetatable(held)))
end

local function in_time(...)
  host.check_time()
  return ...
end

function pcall(f, ...)
  return in_time(raw_pcall(f, ...))
end

function xpcall(f, handler, ...)
  return in_time(raw_xpcall(f, handler, ...))
end

-- Text alone: Lua does not verify bytecode, and a crafted one can break out of any sandbox.
function load(chunk, name, _, ...)
  if select("#", ...) == 0 then return raw_load(chunk, name, "t") end
  return raw_load(chunk, name, "t", (...))
end

-- Moves what comes after the first `from` of a list's items, so that it comes after the first `to`.
local function splice(list, from, to, length)
  move(list, from + 1, length, to + 1)
  for place = length - from + to + 1, length do list[place] = nil end
end

-- What looks at each container at each event is a coroutine that works again and again, because one without a time limit
-- is several times as fast.
local function repeated(work)
  return function(list, other, length)
    while true do
      local result = work(list, other, length)
      -- What is waited with is not kept alive.
      list, other = nil, nil
      list, other, length = yield(result)
    end
  end
end

-- Copies a list of so many items to an empty table.
local copy = repeated(function(list, empty, length)
  for place = 1, length do empty[place] = list[place] end
end)

-- Tells whether a table without a metatable is the same list of so many items.
local same = repeated(function(list, other, length)
  for place = 1, length do
    if list[place] ~= other[place] then return false end
  end
  return other[length + 1] == nil
end)

return {
  copy = copy,
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
  freeze = freeze,
  record = record,
  lazy = lazy,
  protected = function(f, ...) return raw_xpcall(f, host.blame, ...) end,
}
