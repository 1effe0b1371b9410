-- A policy that returns anything at all. The same seed makes the same.
local register = require "register"
local docker, etcd, options = require "docker", require "etcd", require "options"

local state = assert(math.tointeger(tonumber(options.seed)))

-- A number from 1 to `n` (splitmix64).
local function random(n)
  state = state + 0x9e3779b97f4a7c15
  local z = state
  z = (z ~ (z >> 30)) * 0xbf58476d1ce4e5b9
  z = (z ~ (z >> 27)) * 0x94d049bb133111eb
  return ((z ~ (z >> 31)) >> 1) % n + 1
end

local function pick(list)
  return list[random(#list)]
end

local texts = {
  "", "a", "/a/b", "/backends/web/1/port", ".", "..", "/a/../b", "/a//b", "/", "a/", "\0", "\n", "\27[2J", "\xff\xfe",
  "\xed\xa0\x80", "\u{202e}", "\u{10ffff}", "é", "a b", "key", "value", "60", ("x"):rep(256), ("/x"):rep(1200),
  ("v"):rep(20000),
}
local numbers = {
  0, -1, 1, 60, 60.0, 0.5, -0.0, 86400, 86401, 2 ^ 31, 2 ^ 53, 2 ^ 63, -2 ^ 63, 1e308, -1e308, 0 / 0, 1 / 0, -1 / 0,
  math.maxinteger, math.mininteger,
}

-- Fields of a check, each with values that may be good.
local check_fields = {
  http = { "/", "/health?x=%20", "/a b" }, https = { "/" }, tcp = { true, false }, uptime = { 1, 0.5 },
  address = { "10.0.0.1:80", "[::1]:80", "::1", "a:0" }, interval = { 1, 0.1 }, timeout = { 0.1, 1 }, rise = { 2 },
  fall = { 100 }, method = { "HEAD", "get" }, host = { "a.b" }, headers = { { A = "b" }, { ["\n"] = 1 } },
  status = { 200, "200-299,404", "2-" }, insecure = { true }, send = { "a" }, expect = { "b" }, exepct = { "c" },
}
local check_names = {}
for name in pairs(check_fields) do check_names[#check_names + 1] = name end
table.sort(check_names)

local function fail()
  error(pick(texts))
end

local metatables = {
  { __index = fail },
  { __index = function(_, field) return field end },
  { __len = function() return 7 end },
  { __len = fail },
  { __pairs = fail },
  { __pairs = function() return function() return 1, 1 end end },
  { __tostring = fail, __name = {} },
  { __metatable = "read-only" },
  { __newindex = fail, __eq = fail, __call = fail, __concat = fail },
}

local value, entry, entries

local function list(length, make, ...)
  local made = {}
  for index = 1, length do made[index] = make(...) end
  if random(20) == 1 then made[random(9)] = nil end
  if random(20) == 1 then made[random(1000)] = value(1) end
  if random(20) == 1 then made[#made + 1] = made end
  if random(20) == 1 then setmetatable(made, pick(metatables)) end
  return made
end

-- Any value; a table goes no deeper than `depth`, unless it contains itself.
function value(depth, container)
  local kind = random(depth > 0 and 12 or 8)
  if kind == 1 then return nil end
  if kind == 2 then return random(2) == 1 end
  if kind <= 4 then return pick(numbers) end
  if kind <= 6 then return pick(texts) end
  if kind == 7 then return pick { fail, print, coroutine.create(fail) } end
  if kind == 8 then return container and pick { container, container.labels, container.ports, container.inspect } end
  if kind == 9 then return entry(depth - 1, container) end
  return list(random(4) - 1, kind == 10 and entry or value, depth - 1, container)
end

local function check(depth, container)
  local made = {}
  for _ = 1, random(4) do
    local name = pick(check_names)
    made[name] = random(6) == 1 and value(depth, container) or pick(check_fields[name])
  end
  if random(20) == 1 then setmetatable(made, pick(metatables)) end
  return made
end

function entry(depth, container)
  local made = {
    key = "/fuzz/" .. random(30) .. (random(8) == 1 and pick(texts) or ""),
    value = random(8) == 1 and pick(numbers) or tostring(random(3)),
  }
  if random(3) == 1 then made.ttl = random(90) end
  if random(3) == 1 then made.shared = random(2) == 1 end
  if random(8) == 1 then made.check = check(depth, container) end
  if random(4) == 1 then made[pick { "key", "value", "ttl", "shared", "check" }] = value(depth, container) end
  if random(30) == 1 then
    local field = value(depth, container)
    if field ~= nil and field == field then made[field] = value(depth, container) end
  end
  if random(20) == 1 then setmetatable(made, pick(metatables)) end
  return made
end

function register.entries(container)
  local kind = random(40)
  if kind == 1 then error(value(2, container)) end
  if kind == 2 then return end
  if kind <= 10 then return value(3, container), value(2, container) end
  local length = random(5000) == 1 and 3000 or random(4) - 1
  return list(length, entry, 2, container), value(2, container)
end

function register.run()
  etcd.sync(docker.containers(), function(container) return register.entries(container) end)
end

return register
