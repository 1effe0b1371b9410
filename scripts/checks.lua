-- The checks of the default policy: registrator's SERVICE_CHECK_* of a container, and the address that is asked.
-- register.lua has the decisions; sites use those, as register.check and register.checked.

local log = require "log"

local PROBES = { "HTTP", "HTTPS", "TCP" }
-- The settings that mean nothing without a probe.
local DETAILS = { "INTERVAL", "TIMEOUT", "RISE", "FALL", "HTTP_METHOD", "HTTPS_METHOD", "TLS_SKIP_VERIFY" }
-- Registrator's other checks, which Consul's agent makes.
local NOT_MADE = { "CMD", "SCRIPT", "TTL", "GRPC" }

local MILLISECONDS = { ms = 1, s = 1000, m = 60000, h = 3600000 }
-- In seconds, as for the fields of an entry's check.
local DEFAULT_INTERVAL, MIN_INTERVAL, MAX_INTERVAL = 2, 0.1, 3600
local MIN_TIMEOUT, MIN_UPTIME, MAX_UPTIME, MAX_IN_A_ROW = 0.01, 0.001, 86400, 100

-- The warnings that were written, by container. A container's table is the same until it changes.
local warned = setmetatable({}, { __mode = "k" })

local function warn_once(container, message)
  local known = warned[container] or {}
  if known[message] then return end
  known[message] = true
  warned[container] = known
  log.warn("`" .. container.name .. "`: " .. message)
end

-- Adds the settings among these variables to `found`: { [port, or "" for all] = { [NAME] = { value, variable } } }.
local function collect(variables, found)
  for variable, value in pairs(variables) do
    if variable:find("CHECK_", 1, true) then
      local port, name = "", variable:match("^SERVICE_CHECK_(.+)$")
      if not name then port, name = variable:match("^SERVICE_(%d+)_CHECK_(.+)$") end
      if name then
        found = found or {}
        found[port] = found[port] or {}
        found[port][name] = { value = value, variable = variable }
      end
    end
  end
  return found
end

-- The settings of the container that was asked about last, which is asked about for each of its ports.
local last, last_found = setmetatable({}, { __mode = "v" }), nil

-- All settings of a container; nil for none. One pass over its variables costs about as much as looking up the four kinds
-- of check for one port, and finds the names of the others too.
local function settings(container)
  if last[1] ~= container then
    -- A label beats a variable.
    last[1], last_found = container, collect(container.labels, collect(container.env, nil))
  end
  return last_found
end

local NONE = {}

local function refuse(setting, why)
  error("its " .. setting.variable .. ", `" .. setting.value .. "`, " .. why)
end

-- A setting of the port, else of all ports; nil if it is empty or there is none.
local function find(own, general, name)
  local setting = own[name] or general[name]
  return setting and setting.value ~= "" and setting or nil
end

local function switched_on(setting)
  return setting.value ~= "" and setting.value ~= "0" and setting.value:lower() ~= "false"
end

-- TCP is a switch; the others have a path.
local function is_on(name, setting)
  if not setting or setting.value == "" then return false end
  return name ~= "TCP" or switched_on(setting)
end

-- The names of the probes that are on, and their settings. The probes of the port replace those of all ports.
local function probes(own, general)
  local of_port, of_all = {}, {}
  for _, name in ipairs(PROBES) do
    if is_on(name, own[name]) then of_port[#of_port + 1] = name end
    if is_on(name, find(own, general, name)) then of_all[#of_all + 1] = name end
  end
  return of_port[1] and of_port or of_all, of_port[1] ~= nil
end

-- `5`, `5s`, `500ms` or `1m30s` in seconds; nil for any other text.
local function seconds(text)
  if text:find("^%d+%.?%d*$") then return tonumber(text) end
  local sum, rest = 0, text
  repeat
    local number, unit, after = rest:match("^(%d+%.?%d*)(%a+)(.*)$")
    local factor = unit and MILLISECONDS[unit]
    if not factor then return nil end
    sum, rest = sum + tonumber(number) * factor, after
  until rest == ""
  return math.tointeger(sum / 1000) or sum / 1000
end

local function time(setting, least, most, why)
  local value = seconds(setting.value)
  if not value or value < least or value > most then refuse(setting, why) end
  return value
end

local function in_a_row(setting)
  local value = setting.value:find("^%d+$") and tonumber(setting.value) or 0
  if value < 1 or value > MAX_IN_A_ROW then
    refuse(setting, "is no number of probes: write one from 1 to " .. MAX_IN_A_ROW)
  end
  return value
end

local function path(setting)
  if setting.value:sub(1, 1) ~= "/" then
    refuse(setting, "is no path: write " .. setting.variable .. "=/health or the like, with a slash in front")
  end
  local illegal = setting.value:match("[^!-~]") or setting.value:match("[#<>`]")
  if illegal then refuse(setting, "has a character that no path has: encode it, as %20 for a space") end
  return setting.value
end

local function method(setting)
  if not setting.value:find("^%a+$") or setting.value:upper() == "CONNECT" then
    refuse(setting, "is no method: write " .. setting.variable .. "=HEAD or the like")
  end
  return setting.value:upper()
end

-- Adds the details of a probe to its check.
local function add_details(check, name, get)
  local interval, timeout = get "INTERVAL", get "TIMEOUT"
  if interval then
    local why = "is no interval: write a time from 100ms to 1h, such as 500ms, 5s or 1m30s"
    check.interval = time(interval, MIN_INTERVAL, MAX_INTERVAL, why)
  end
  if timeout then
    local most = check.interval or MAX_INTERVAL
    local why = "is no timeout: write a time from 10ms to " .. most .. "s, which is the interval, or a longer interval"
    check.timeout = time(timeout, MIN_TIMEOUT, most, why)
    -- Registrator's default interval is longer than this one.
    if not interval and check.timeout > DEFAULT_INTERVAL then check.interval = check.timeout end
  end
  local rise, fall = get "RISE", get "FALL"
  check.rise, check.fall = rise and in_a_row(rise), fall and in_a_row(fall)
  if name == "TCP" then return end
  local verb = name == "HTTPS" and get "HTTPS_METHOD" or get "HTTP_METHOD"
  check.method = verb and method(verb)
  local skip = name == "HTTPS" and get "TLS_SKIP_VERIFY"
  if skip and switched_on(skip) then check.insecure = true end
end

-- Whether a detail may belong to something: to a probe of any port, on or off, or to a check that is not made.
local function any_check(found)
  for _, of_port in pairs(found) do
    for _, names in ipairs { PROBES, NOT_MADE } do
      for _, name in ipairs(names) do
        if of_port[name] then return true end
      end
    end
  end
  return false
end

-- Refuses a detail that belongs to no probe, because its author takes the container for checked.
local function refuse_lone_details(found, own, general)
  for _, name in ipairs(DETAILS) do
    local setting = find(own, general, name)
    if setting and not any_check(found) then
      local prefix = setting.variable:sub(1, -#name - 1)
      refuse(setting, ("checks nothing alone: set %sHTTP, %sHTTPS or %sTCP too"):format(prefix, prefix, prefix))
    end
  end
end

local function has_tcp(container, number)
  for _, port in ipairs(container.ports) do
    if port.port == number and port.protocol == "tcp" then return true end
  end
  return false
end

local checks = {}

-- The check that a container's settings ask for; nil for none.
function checks.of_settings(container, port)
  local found = settings(container)
  if not found then return nil end
  local own, general = found[tostring(port.port)] or NONE, found[""] or NONE
  local function get(name) return find(own, general, name) end
  for _, name in ipairs(NOT_MADE) do
    local setting = get(name)
    if setting then
      warn_once(container, setting.variable .. " has no effect, because this kind of check is not made: "
        .. "use SERVICE_CHECK_HTTP, SERVICE_CHECK_TCP or Docker's HEALTHCHECK")
    end
  end
  refuse_lone_details(found, own, general)
  local check = {}
  local uptime = get "UPTIME"
  if uptime then
    local why = "is no time to have run: write one from 1ms to 24h, such as 5s or 1m30s"
    check.uptime = time(uptime, MIN_UPTIME, MAX_UPTIME, why)
  end
  local on, is_own = probes(own, general)
  local name, another = on[1], on[2]
  if port.protocol ~= "tcp" then
    if name and is_own and not has_tcp(container, port.port) then
      local which = port.port .. "/" .. port.protocol
      refuse(own[name], "is for port " .. which .. ", and only TCP ports can be asked: remove it")
    end
    name, another = nil, nil
  end
  if another then
    local first, second = get(name).variable, get(another).variable
    error("its " .. first .. " and " .. second .. " are both set, and a port has one check: remove one")
  end
  if name == "TCP" then
    check.tcp = true
  elseif name then
    check[name:lower()] = path(get(name))
  end
  if name then add_details(check, name, get) end
  return next(check) and check or nil
end

-- The container's own address in a network that this host reaches: that of a bridge has the host as its gateway.
local function own_ip(container)
  local names = {}
  for name in pairs(container.networks) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local network = container.networks[name]
    if network.ip and network.gateway then return network.ip end
    if network.ip6 and network.gateway6 then return "[" .. network.ip6 .. "]" end
  end
end

-- The address that a check asks. Through loopback, Docker's proxy accepts a connection before anything listens in the
-- container, so a check that only connects asks the container itself.
local function asked_address(check, container, port, address)
  local is_loopback = address:find("^127%.") or address:find("^%[::1%]:") or address:find("^localhost:")
  local on_host = container.network_mode == "host" or container.networks.host
  if not is_loopback or not check.tcp or check.expect or on_host then return address end
  local ip = own_ip(container)
  if ip then return ip .. ":" .. port.port end
  warn_once(container, "its check by TCP at " .. address .. " proves nothing, because Docker's proxy accepts "
    .. "connections before the container does: set SERVICE_CHECK_HTTP, or publish the port on an address of the host")
  return address
end

-- A copy of a check, with the address that it asks. `address` is the port's.
function checks.complete(check, container, port, address)
  local copy = {}
  for name, value in pairs(check) do copy[name] = value end
  if copy.address == nil and (copy.http or copy.https or copy.tcp) then
    copy.address = asked_address(copy, container, port, address)
  end
  return copy
end

return checks
