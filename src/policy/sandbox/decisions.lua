-- Tables of decisions, which a site overrides one by one: a misspelt name is an error where it is read or set, and a
-- site's function that returns a wrong type is an error that names it. The host calls this once, with functions of its
-- own.

local host = ...

local error, getmetatable, pairs, rawget, select, setmetatable = error, getmetatable, pairs, rawget, select, setmetatable
local tostring, type, math_type, concat = tostring, type, math.type, table.concat

local WORDS = {
  boolean = "true or false", string = "a string", number = "a number", integer = "a whole number", table = "a table",
  ["nil"] = "nil",
}

-- The results of a decision, from a text such as `boolean, string?`: for each the set of its types, and their words.
local function parse(text)
  local results = {}
  for result in text:gmatch("[^,%s]+") do
    local types, words = {}, {}
    for kind in (result:gsub("%?$", "|nil")):gmatch("[^|]+") do
      types[kind] = true
      words[#words + 1] = WORDS[kind] or error("there is no type " .. kind)
    end
    types.words = concat(words, " or ")
    results[#results + 1] = types
  end
  return results
end

local function shown(value, count)
  if count == 0 then return "nothing" end
  if type(value) == "boolean" then return tostring(value) end
  return WORDS[type(value)] or "a " .. type(value)
end

-- Returns the results of a call of the decision `given`, or raises an error that blames it.
local function verified(name, given, results, ...)
  for place = 1, #results do
    local types, value = results[place], (select(place, ...))
    if not types[type(value)] and not (math_type(value) and types[math_type(value)]) then
      local what = place == 1 and "`" .. name .. "` returned " or "the second result of `" .. name .. "` is "
      host.refuse(given, name, what .. shown(value, select("#", ...)) .. " and not " .. types.words)
    end
  end
  return ...
end

local function checked(name, given, results)
  return function(...) return verified(name, given, results, given(...)) end
end

local function refuse_name(name, own, field)
  local known, level = {}, own
  while level do
    for each in pairs(level) do known[#known + 1] = each end
    level = getmetatable(level) and getmetatable(level).__index
  end
  local like = host.nearest(tostring(field), known)
  local hint = like and "; did you mean `" .. like .. "`?" or ""
  host.fail(name .. " has no decision `" .. tostring(field) .. "`" .. hint)
end

-- The table `own` as scripts see it. `name` is its module's. `results` has the types of the results of those functions
-- that are checked when a site has set them. What `own` lacks is in the `__index` of its metatable, and is set there.
-- `touched`, if there is one, is told each name that is read or set, with its table.
local function guard(name, own, results, touched)
  local parsed = {}
  for field, text in pairs(results) do parsed[field] = parse(text) end
  for field, value in pairs(own) do
    if type(value) == "function" then host.name(value, name .. "." .. field) end
  end
  return setmetatable({}, {
    __index = function(_, field)
      local value = own[field]
      if value == nil then refuse_name(name, own, field) end
      if touched then touched(own, field) end
      return value
    end,
    __newindex = function(_, field, value)
      local known = own[field]
      if known == nil then refuse_name(name, own, field) end
      local full = name .. "." .. field
      if type(value) ~= type(known) then host.fail(full .. " is a " .. type(known) .. ", not a " .. type(value)) end
      local owner = own
      while rawget(owner, field) == nil do owner = getmetatable(owner).__index end
      if touched then touched(owner, field) end
      if type(value) == "function" then
        host.name(value, full)
        if parsed[field] then value = checked(full, value, parsed[field]) end
      end
      owner[field] = value
    end,
    decisions = own,
  })
end

return { guard = guard }
