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
--   function register.service(container, port)
--     return container.labels["com.acme.service"] or container.image.name
--   end
--   return register

local decisions, docker, etcd, log = require "decisions", require "docker", require "etcd", require "log"
local options, checks = require "options", require "register.checks"

local register = {
  prefix = options.prefix,                -- the beginning of every key
  ttl = options.ttl,                      -- the lifetime of keys after their registrar dies, in seconds
  host_ip = options.host_ip,              -- the address of ports that are bound to every address of this host
  protocols = options.protocols or "tcp", -- the protocols that are registered, with commas between them
}

-- The settings, whose names begin with SERVICE_, of the container that was asked about last: it has few, and is asked
-- about for many.
local last, last_settings

local function settings(container)
  local found = {}
  -- A label beats a variable.
  for _, variables in ipairs { container.env, container.labels } do
    for name, value in pairs(variables) do
      if name:find("^SERVICE_") then found[name] = value end
    end
  end
  return found
end

-- The label of this name, which begins with SERVICE_, else the environment variable.
local function variable(container, name)
  if not rawequal(container, last) then
    -- A table of a site's own may change between two calls.
    if getmetatable(container) ~= "read-only" then return container.labels[name] or container.env[name] end
    last_settings = settings(container)
    last = container
  end
  return last_settings[name]
end

-- SERVICE_<port>_<NAME>, else SERVICE_<NAME>.
local function setting(container, port, name)
  return port and variable(container, "SERVICE_" .. port.port .. "_" .. name) or variable(container, "SERVICE_" .. name)
end

local function filled(value) return value ~= "" and value or nil end

local function switched_on(value)
  return value ~= nil and value ~= "" and value ~= "0" and value:lower() ~= "false"
end

-- Docker's bridges on this host, which no other host reaches. The first is that of docker0 unless it is configured.
local bridges = { ["172.17.0.1"] = true }
for name, addresses in pairs(options.interfaces) do
  if name:find("^docker") or name:find("^podman") or name:find("^cni%-podman") or name:find("^br%-%x+$") then
    for _, ip in ipairs(addresses) do bridges[ip] = true end
  end
end

-- How good an address is for other hosts: 1 every address of the host, 2 global, 3 private; false if it is bad.
local kinds = setmetatable({}, {
  __index = function(kinds, ip)
    local kind = 2
    local second = tonumber(ip:match("^172%.(%d+)%.") or ip:match("^100%.(%d+)%."))
    if ip == "0.0.0.0" or ip == "::" then
      kind = 1
    elseif ip == "::1" or ip:find("^127%.") or ip:find("^169%.254%.") or ip:find("^fe[89ab]%x:") or bridges[ip] then
      kind = false
    elseif ip:find("^10%.") or ip:find("^192%.168%.") or ip:find("^f[cd]%x%x:")
      or second and (ip:find("^172") and second >= 16 and second < 32 or ip:find("^100") and second >= 64 and second < 128)
    then
      kind = 3
    end
    kinds[ip] = kind
    return kind
  end,
})

local function is_ip6(ip)
  return ip:find(":", 1, true) ~= nil
end

local function is_gateway(container, ip)
  for _, network in pairs(container.networks) do
    if ip == network.gateway or ip == network.gateway6 then return true end
  end
  return false
end

-- The binding that is registered: the best one that other hosts reach; nil if there is none. The binding at `host_ip`
-- is better than one at every address; any other comes after them, those of the same family first.
function register.binding(container, port)
  local best, best_rank
  for _, candidate in ipairs(port.bindings) do
    local ip = candidate.ip
    local rank = kinds[ip]
    local other_family = is_ip6(ip) ~= is_ip6(register.host_ip)
    if ip == register.host_ip and (switched_on(options.loopback) or not ip:find("^127%.") and ip ~= "::1") then
      rank = 0
    elseif rank == 1 then
      rank = not other_family and rank
    elseif rank and is_gateway(container, ip) then
      rank = false
    elseif rank and other_family then
      rank = rank + 2
    end
    if rank and (not best or rank < best_rank) then best, best_rank = candidate, rank end
  end
  return best
end

-- Whether a service name is given for a container, which is not its image's.
local function is_named(container)
  if variable(container, "SERVICE_NAME") then return true end
  for _, port in ipairs(container.ports) do
    if variable(container, "SERVICE_" .. port.port .. "_NAME") then return true end
  end
  return false
end

-- Why an infra container is left out, with the ports that are in nobody's reach.
local function infra_reason(container)
  local lost = {}
  for _, port in ipairs(container.ports) do
    if port.host_port then lost[#lost + 1] = port.port .. "/" .. port.protocol end
  end
  local reason = "it only holds a pod's network: " .. container.infra
  if lost[1] then
    reason = reason .. "; no container in that network exposes " .. table.concat(lost, ", ") .. ", which it publishes"
  end
  return reason
end

-- Whether a container is registered, and if not, why.
function register.accept(container)
  if container.status ~= "running" then return false, "it is " .. container.status end
  if container.stopping then return false, "it is stopping" end
  if container.health ~= "none" and container.health ~= "healthy" then
    return false, "its health is " .. container.health
  end
  if switched_on(setting(container, nil, "IGNORE")) then return false, "SERVICE_IGNORE is set" end
  if container.infra and not is_named(container) then return false, infra_reason(container) end
  if container.cut_off then
    return false, "the owner of its network, " .. container.network_owner .. ", has started after it: restart it too"
  end
  return true
end

local function unreachable(port)
  local addresses = {}
  for _, candidate in ipairs(port.bindings) do
    if kinds[candidate.ip] == 1 then
      return "it is published over " .. (is_ip6(candidate.ip) and "IPv6" or "IPv4") .. " alone, and the host's address is "
        .. register.host_ip
    end
    addresses[#addresses + 1] = candidate.ip
  end
  return "it is published on " .. table.concat(addresses, " and ") .. " alone"
end

-- Whether a port of an accepted container is registered, and if not, why.
function register.accept_port(container, port)
  local protocols = "," .. register.protocols .. ","
  if not protocols:find("," .. port.protocol .. ",", 1, true) then
    local more = register.protocols .. "," .. port.protocol
    return false, port.protocol .. " is not asked for (--set protocols=" .. more .. ")"
  end
  if port.guests then return false, "it belongs to " .. port.guests .. ", in its network" end
  if not port.host_port and container.labels["com.docker.swarm.service.name"] then
    return false, "it is not published: except in host mode, Swarm publishes ports for a service, not for its tasks"
  end
  if not port.host_port then
    local owner = container.network_owner
    if owner then return false, owner .. ", the owner of its network, does not publish it" end
    if container.network_mode:find("^container:") then return false, "the owner of its network does not run" end
    return false, "it is not published"
  end
  if not register.binding(container, port) then return false, unreachable(port) end
  if switched_on(setting(container, port, "IGNORE")) then
    return false, "SERVICE_" .. port.port .. "_IGNORE is set"
  end
  return true
end

-- The odd names that were warned of, by container. A container's table is the same until it changes.
local odd_names = setmetatable({}, { __mode = "k" })

-- Warns, once for each name, of quotes and blanks around it: `docker run --env-file` does not strip them.
local function check_name(container, port, name)
  local bare = name:match("^%s*(.-)%s*$")
  bare = bare:match('^"(.+)"$') or bare:match("^'(.+)'$") or bare
  local known = odd_names[container] or {}
  if bare == name or known[name] then return end
  known[name] = true
  odd_names[container] = known
  local of_port = "SERVICE_" .. port.port .. "_NAME"
  local key = variable(container, of_port) and of_port or "SERVICE_NAME"
  log.warn(("`%s`: the quotes or blanks around its %s are part of the name: write %s=%s (an --env-file needs no quotes)")
    :format(container.name, key, key, bare ~= "" and bare or "NAME"))
end

-- The service that a port belongs to.
function register.service(container, port)
  local name = setting(container, port, "NAME")
  if name then check_name(container, port, name) else name = container.image.name end
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

-- A name as a DNS label: in lower case, with `-` for `_`. Any other change is an error, because two names could then
-- become one label.
function register.dns_label(name)
  local label = name:lower():gsub("_", "-")
  if #label > 63 or not label:find("^[a-z0-9][a-z0-9-]*$") or label:sub(-1) == "-" then
    error("the service name `" .. name .. "` makes no DNS label: it may have up to 63 characters of a to z, 0 to 9, "
      .. "`-` and `_` (which becomes `-`), but no `-` or `_` at an end: set SERVICE_NAME=NAME")
  end
  return label
end

-- The key segment that tells the containers of a service apart.
function register.member(container)
  return container.short_id
end

-- The host, without brackets, and the number at which a port is reached.
function register.endpoint(container, port)
  local bound = register.binding(container, port) or error("port " .. port.port .. " cannot be reached from outside")
  local unspecified = bound.ip == "0.0.0.0" or bound.ip == "::"
  return unspecified and register.host_ip or bound.ip, bound.port
end

-- The address at which a port is reached: the endpoint as one text.
function register.address(container, port)
  local host, number = register.endpoint(container, port)
  if is_ip6(host) then host = "[" .. host .. "]" end
  return host .. ":" .. number
end

-- The value of a container's key.
function register.value(container, port)
  return register.address(container, port)
end

-- The directory of a port's keys.
function register.directory(container, port)
  local service = etcd.segment("the service name", register.service(container, port), container)
  return register.prefix .. "/" .. etcd.key(service, port.index)
end

-- The value of the `port` key, at which readers reach the service.
function register.port_value(container, port)
  local number = variable(container, "SERVICE_" .. port.port .. "_PORT") or tostring(port.port)
  local value = number:find("^%d%d?%d?%d?%d?$") and tonumber(number) or 0
  if value < 1 or value > 65535 then
    error("its SERVICE_" .. port.port .. "_PORT, `" .. number .. "`, is no port: ports are from 1 to 65535")
  end
  return port.protocol == "tcp" and number or number .. "/" .. port.protocol
end

-- The host names at which readers reach the service by HTTP, with commas between them; nil for none.
function register.http(container, port)
  return filled(setting(container, port, "HTTP"))
end

-- The number of datagrams that answer one, for readers that forward UDP; nil if it is not known.
function register.responses(container, port)
  return port.protocol == "udp" and filled(setting(container, port, "RESPONSES")) or nil
end

-- How a port's service is checked, as the table `check` of an entry; nil for no check. `address` is by default the port's.
function register.check(container, port)
  return checks.of_settings(container, port)
end

-- The finished check of a port, for each of its entries, in any layout; nil for no check.
function register.checked(container, port)
  local check = register.check(container, port)
  return check and checks.complete(check, container, port, register.address(container, port))
end

local function because(port, why)
  return "port " .. port.port .. "/" .. port.protocol .. ": " .. why
end

-- The ports of a container that are registered, for any layout. The second result, for --explain, has a reason for
-- each port that is left out, or one for all.
function register.ports(container)
  local accepted, why = register.accept(container)
  if not accepted then return {}, { why or "it is not accepted" } end
  if #container.ports == 0 then
    local owner = container.network_owner
    return {}, { owner and "it exposes no port, so those of its network belong to " .. owner or "it exposes no port" }
  end
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
    local directory, check = register.directory(container, port), register.checked(container, port)
    local function put(shared, name, value)
      local key = directory .. "/" .. name
      entries[#entries + 1] = { key = key, value = value, ttl = register.ttl, shared = shared, check = check }
    end
    put(nil, etcd.key(register.member(container)), register.value(container, port))
    put(true, "port", register.port_value(container, port))
    for _, attribute in ipairs { "http", "responses" } do
      local value = register[attribute](container, port)
      if value then put(true, attribute, value) end
    end
  end
  return entries, left_out
end

-- The keys that belong to this host and to no container, made of all of its containers. It is called for each snapshot
-- that differs from the last.
function register.host_entries(containers)
  return {}
end
local default_host_entries = register.host_entries

-- The layouts whose `entries` and `run` have been neither read nor set.
local unused = {}

-- A site that requires a layout for its side effect, which it no longer has, must not get other keys without a word.
local function check_layouts()
  if next(unused) then
    error("a layout was required, and its entries are not used: "
      .. "write `require(\"NAME\").entries`, or return the layout as the policy", 0)
  end
end

-- The default is not called, because that would cost each event as much as a container does.
local function host_entries() return register.host_entries ~= default_host_entries and register.host_entries or nil end

-- Keeps the store in step for ever.
local function run()
  check_layouts()
  for containers in docker.watch() do etcd.sync(containers, register.entries, host_entries()) end
end
register.run = run

-- The types of the results of a site's functions.
local results = {
  accept = "boolean, string?", accept_port = "boolean, string?",
  binding = "table?", ports = "table, table?", tcp_ports = "table",
  service = "string|number", port_service = "string|number", dns_label = "string",
  member = "string|number", directory = "string",
  endpoint = "string, integer", address = "string", value = "string|number",
  port_value = "string|number", http = "string?", responses = "string?",
  check = "table?", checked = "table?",
}

-- A layout whose entries or `run` are read or set is used.
local function touched(own, field)
  if field == "entries" or field == "run" then unused[own] = nil end
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
    for containers in docker.watch() do etcd.sync(containers, own.entries, host_entries()) end
  end
  unused[own] = true
  return decisions.guard("register", own, results, touched)
end

return decisions.guard("register", register, results)
