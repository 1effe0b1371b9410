-- The default policy of docker-register. A container with two exposed ports has these keys:
--
--   /backends/<service>/1/<container>   1.2.3.4:32768      one for each container: owned
--   /backends/<service>/1/port          8005               one for all of them: shared
--   /backends/<service>/2/<container>   1.2.3.4:32769
--   /backends/<service>/2/port          8006
--
-- Each function below is a decision. A site overrides some of them:
--
--   local register = require "register"
--   function register.service(container, port) return container.labels["com.acme.service"] end
--   return register

local docker, etcd, options = require "docker", require "etcd", require "options"

local register = {
  prefix = options.prefix,                -- the beginning of every key
  ttl = options.ttl,                      -- the lifetime of keys after their registrar dies, in seconds
  host_ip = options.host_ip,              -- the address of ports that are bound to every address of this host
  protocols = options.protocols or "tcp", -- the protocols that are registered, with commas between them
}

-- The label of this name, else the environment variable.
local function variable(container, name)
  return container.labels[name] or container.env[name]
end

-- SERVICE_<port>_<NAME>, else SERVICE_<NAME>.
local function setting(container, port, name)
  return port and variable(container, "SERVICE_" .. port.port .. "_" .. name) or variable(container, "SERVICE_" .. name)
end

local function switched_on(value)
  return value ~= nil and value ~= "" and value ~= "0" and value:lower() ~= "false"
end

local function is_loopback(ip)
  return ip:find("^127%.") ~= nil or ip == "::1"
end

-- The binding that is registered: the best one that other hosts can reach; nil if there is none.
local function binding(port)
  local every_address = register.host_ip:find(":", 1, true) and "::" or "0.0.0.0"
  for _, candidate in ipairs(port.bindings) do
    local unspecified = candidate.ip == "0.0.0.0" or candidate.ip == "::"
    if candidate.ip == every_address or not unspecified and not is_loopback(candidate.ip) then return candidate end
  end
end

-- Whether a container is registered, and if not, why.
function register.accept(container)
  if container.status ~= "running" then return false, "it is " .. container.status end
  if container.stopping then return false, "it is stopping" end
  if container.health ~= "none" and container.health ~= "healthy" then
    return false, "its health is " .. container.health
  end
  if switched_on(setting(container, nil, "IGNORE")) then return false, "SERVICE_IGNORE is set" end
  return true
end

-- Whether a port of an accepted container is registered, and if not, why.
function register.accept_port(container, port)
  local protocols = "," .. register.protocols .. ","
  if not protocols:find("," .. port.protocol .. ",", 1, true) then
    return false, port.protocol .. " is not asked for (--set protocols=tcp,udp)"
  end
  if not port.host_port then return false, "it is not published" end
  if not binding(port) then return false, "it is published on " .. port.host_ip .. " alone" end
  if switched_on(setting(container, port, "IGNORE")) then
    return false, "SERVICE_" .. port.port .. "_IGNORE is set"
  end
  return true
end

-- The service that a port belongs to.
function register.service(container, port)
  local name = setting(container, port, "NAME") or container.image.name
  if not name then error("its image was given by id, which has no name: set SERVICE_NAME") end
  if name == "" then error("its SERVICE_NAME or SERVICE_" .. port.port .. "_NAME is empty: give it a value, or remove it") end
  return name
end

-- The service of a port in a layout that has one for each port: `<service>-<port>` if the container has several ports
-- (`count`), unless SERVICE_<port>_NAME names it.
function register.port_service(container, port, count)
  local service = register.service(container, port)
  if count > 1 and not variable(container, "SERVICE_" .. port.port .. "_NAME") then
    service = service .. "-" .. port.port
  end
  return service
end

-- The key segment that tells the containers of a service apart.
function register.member(container)
  return container.short_id
end

-- The address at which a port is reached.
function register.address(container, port)
  local bound = binding(port) or error("port " .. port.port .. " cannot be reached from outside")
  local unspecified = bound.ip == "0.0.0.0" or bound.ip == "::"
  local ip = unspecified and register.host_ip or bound.ip
  if ip:find(":", 1, true) then ip = "[" .. ip .. "]" end
  return ip .. ":" .. bound.port
end

-- The value of the `port` key.
function register.port_value(container, port)
  return port.protocol == "tcp" and tostring(port.port) or port.port .. "/" .. port.protocol
end

local function because(port, why)
  return "port " .. port.port .. "/" .. port.protocol .. ": " .. why
end

-- The ports of a container that are registered, for any layout. The second result, for --explain, has a reason for
-- each port that is left out, or one for all.
function register.ports(container)
  local accepted, why = register.accept(container)
  if not accepted then return {}, { why or "it is not accepted" } end
  if #container.ports == 0 then return {}, { "it exposes no port" } end
  local ports, left_out = {}, {}
  for _, port in ipairs(container.ports) do
    accepted, why = register.accept_port(container, port)
    if accepted then
      ports[#ports + 1] = port
    else
      left_out[#left_out + 1] = because(port, why or "it is not accepted")
    end
  end
  return ports, left_out
end

-- The TCP ports of a list, for readers that know no other protocol. Each other port is added to `left_out` with `why`.
function register.tcp_ports(ports, left_out, why)
  local tcp = {}
  for _, port in ipairs(ports) do
    if port.protocol == "tcp" then
      tcp[#tcp + 1] = port
    else
      left_out[#left_out + 1] = because(port, why)
    end
  end
  return tcp
end

-- The keys of a container. The second result is that of `ports`: the reasons why ports are left out.
function register.entries(container)
  local entries, ports, left_out = {}, register.ports(container)
  for _, port in ipairs(ports) do
    local service = etcd.segment("the service name", register.service(container, port), container)
    local directory = register.prefix .. "/" .. etcd.key(service, port.index)
    entries[#entries + 1] = {
      key = directory .. "/" .. etcd.key(register.member(container)),
      value = register.address(container, port),
      ttl = register.ttl,
    }
    entries[#entries + 1] = {
      key = directory .. "/port",
      value = register.port_value(container, port),
      ttl = register.ttl,
      shared = true,
    }
  end
  return entries, left_out
end

-- The layouts whose `entries` and `run` have been neither read nor set.
local unused = {}

-- A site that requires a layout for its side effect, which it no longer has, must not get other keys without a word.
local function check_layouts()
  if next(unused) then
    error("a layout was required, and its entries are not used: "
      .. "write `require(\"NAME\").entries`, or return the layout as the policy", 0)
  end
end

-- Keeps etcd in step for ever.
local function run()
  check_layouts()
  for containers in docker.watch() do
    etcd.sync(containers, register.entries)
  end
end
register.run = run

-- The tables of decisions: register's own and one for each layout. Errors name their functions `register.NAME`.
local decisions = {}

-- Guards a table of decisions: a misspelt override, or one of another type, fails when it is assigned, not at the
-- first container. A decision that the table itself does not have is set in register.
local function policy(own, index)
  decisions[#decisions + 1] = own
  return setmetatable({}, {
    __index = index or own,
    __newindex = function(_, field, value)
      if own[field] == nil then
        error("register has no decision `" .. tostring(field) .. "`", 2)
      elseif type(value) ~= type(own[field]) then
        error("register." .. field .. " is a " .. type(own[field]) .. ", not a " .. type(value), 2)
      end
      local owner = rawget(own, field) ~= nil and own or register
      unused[owner] = nil
      owner[field] = value
    end,
    decisions = decisions,
  })
end

-- A policy with its own `entries` and `run`. It shares all other decisions with register and the other layouts.
function register.layout(entries)
  if type(entries) ~= "function" then error("register.layout takes a function, not a " .. type(entries), 2) end
  local own = setmetatable({ entries = entries }, { __index = register })
  function own.run()
    check_layouts()
    if register.run ~= run then
      error("register.run is overridden, and the policy is a layout, which has its own: override the layout's `run`", 0)
    end
    for containers in docker.watch() do
      etcd.sync(containers, own.entries)
    end
  end
  unused[own] = true
  return policy(own, function(_, field)
    if field == "entries" or field == "run" then unused[own] = nil end
    return own[field]
  end)
end

return policy(register)
