-- The default policy of `docker-register discover`: a proxy on every host routes to the services that are registered.
--
--   /backends/<service>/<n>/<container>   1.2.3.4:32768      a member
--   /backends/<service>/<n>/port          8005               the port that the service is reached at on every host
--   /backends/<service>/<n>/http          a.example.com      an attribute: its host names, with commas between them
--   /backends/<service>/<n>/responses     1                  an attribute: the datagrams that answer one, for UDP
--
-- Each function below is a decision. A site overrides some of them:
--
--   local discover = require "discover"
--   function discover.accept(service) return service.name ~= "internal" end
--   return discover

local decisions, etcd, haproxy = require "decisions", require "etcd", require "haproxy"
local log, options, proxy = require "log", require "options", require "proxy"

local function split(list)
  local items = {}
  for item in (list or ""):gmatch("[^,%s]+") do items[#items + 1] = item end
  return items
end

-- Loopback, and the address of docker0, at which containers reach this host.
local function default_bind()
  local addresses = { "127.0.0.1" }
  local docker0 = options.interfaces.docker0
  if docker0 and docker0[1] then addresses[2] = docker0[1] end
  return addresses
end

local discover = {
  prefix = options.prefix,                         -- the beginning of every key
  layout = options.layout or "",                   -- the layout of the keys, if it is not our own
  targets = {},                                    -- the modules that make the files
  bind = options.bind and split(options.bind) or default_bind(), -- addresses of this host; `loopback`: one by name
  http_bind = options.http_bind or "127.0.0.1:80", -- the address that all services with host names share
  http = split(options.http),                      -- services that speak HTTP and have registered no host name
  server_options = options.server or "",           -- the proxy's options of each server, if not the target's
  attributes = { http = true, responses = true },  -- keys beside `port` that are no containers
}
for i, name in ipairs(split(options.target or proxy.name ~= "none" and proxy.name or "")) do
  discover.targets[i] = require(name)
end

-- The first target that can route to a service, which decides how it is written; nil and the reason if none can.
-- Targets that only list what others route to are asked if there are no others.
local function target_of(service)
  local routing, why = {}, nil
  for _, target in ipairs(discover.targets) do
    if not target.lists then routing[#routing + 1] = target end
  end
  for _, target in ipairs(routing[1] and routing or discover.targets) do
    local accepted, reason = target.accept(service)
    if accepted then return target end
    why = why or reason
  end
  return nil, why
end

-- Where a key belongs; nil and the reason if it is left out.
function discover.service(key, value)
  local below, form = key:sub(#discover.prefix + 2), "<service>/<n>/<container>"
  local service, index, part = below:match("^([^/]+)/(%d+)/([^/]+)$")
  if discover.layout ~= "" then
    index, form = 1, "<service>/<container>"
    service, part = below:match("^([^/]+)/([^/]+)$")
  end
  if discover.layout == "registrator" then
    form = "<service>/<host>:<container>:<port>"
    local port, protocol = (part or ""):match(":(%d+)(:?%l*)$")
    if port then
      return { service = service, index = 1, member = part, address = value, port = port .. protocol:gsub(":", "/") }
    end
    service = nil
  end
  if not service then return nil, "it is not " .. discover.prefix .. "/" .. form end
  if part == "port" then return { service = service, index = index, port = value } end
  if discover.attributes[part] then
    return { service = service, index = index, attribute = part, value = value }
  end
  return { service = service, index = index, member = part, address = value }
end

-- Whether a service gets a route, and if not, why.
function discover.accept(service)
  local target, why = target_of(service)
  return target ~= nil, why
end

-- The host names of a service, in lower case; none if it is not reached by them. The second result is one that no
-- request can have.
function discover.hosts(service)
  local hosts, bad = {}, nil
  for _, host in ipairs(split(service.attributes.http)) do
    host = host:lower()
    local is_good = host:find("^[%w-][%w.-]*$") and not host:find("..", 1, true) and #host <= 253
    if is_good then hosts[#hosts + 1] = host else bad = host end
  end
  return hosts, bad
end

-- "http", "tcp" or "udp".
function discover.mode(service)
  if service.protocol ~= "tcp" then return service.protocol end
  if service.attributes.http then return "http" end
  for _, name in ipairs(discover.http) do
    if name == service.name then return "http" end
  end
  return "tcp"
end

-- The number of datagrams with which a server answers one, of a UDP service; nil if it is not known.
function discover.responses(service)
  local text = service.attributes.responses or options.responses
  if not text then return nil end
  if not text:find("^%d%d?%d?%d?%d?$") then error("its number of responses is `" .. text .. "`: give it 0 to 99999") end
  return tonumber(text)
end

-- A loopback address of a service's own, by its name: of 127.1.0.0 to 127.254.255.255, where no host has a service.
function discover.loopback(service)
  local hash = 2166136261 -- FNV-1a, of 32 bits
  for i = 1, #service.name do hash = (hash ~ service.name:byte(i)) * 16777619 & 0xffffffff end
  return ("127.%d.%d.%d"):format(1 + (hash >> 24) % 254, (hash >> 12) & 255, 1 + hash % 254)
end

-- The addresses that a service has for itself.
function discover.listen(service)
  local listen = {}
  for i, ip in ipairs(discover.bind) do
    if ip == "loopback" then ip = discover.loopback(service) end
    if ip:find(":", 1, true) then ip = "[" .. ip .. "]" end
    listen[i] = ip .. ":" .. service.port
  end
  return listen
end

-- The name of a member's server. A container that restarts gets another port, and with it another server.
function discover.name(service, member)
  local target = target_of(service) or haproxy
  return target.identifier(member.name .. "_" .. member.host .. ":" .. member.port)
end

-- The proxy's options of a member's server.
function discover.options(service, member)
  if discover.server_options ~= "" then return discover.server_options end
  local target = target_of(service)
  return target and target.options
end

-- The listener of a service: it is called when the service has changed. nil and the reason leave the service out.
function discover.listener(service)
  local accepted, why = discover.accept(service)
  if not accepted then return nil, why or "it is not accepted" end
  local hosts, bad = discover.hosts(service)
  if bad then
    error("its host name `" .. bad .. "` is none: it has parts of a to z, 0 to 9 and `-`, with one dot between two")
  end
  if service.protocol == "udp" then discover.responses(service) end -- a bad number is this service's error alone
  local servers = {}
  for _, member in ipairs(service.members) do
    servers[#servers + 1] = {
      name = discover.name(service, member),
      address = member.address,
      options = discover.options(service, member),
    }
  end
  local target = target_of(service)
  if target and target.lists == "servers" then return { servers = servers } end
  return {
    listen = discover.listen(service),
    shared = hosts[1] and service.protocol == "tcp" and discover.http_bind or nil,
    servers = servers,
  }
end

-- The beginning of HAProxy's configuration. A site whose HAProxy reads several files may leave out what another has.
function discover.head()
  return haproxy.global(proxy) .. haproxy.defaults() .. haproxy.stats(proxy)
end

-- The warnings about host names so far: `files` is called at each change.
local told = {}

-- Of two services with one host name, the older has it. Two ports of one container may share it without a word.
local function older(host, one, other)
  if other.created < one.created then one, other = other, one end
  local message = ("host name `%s` of service `%s/%s` goes to `%s/%s`, which is older: give one of them another")
    :format(host, other.name, other.index, one.name, one.index)
  if one.name ~= other.name and not told[message] then
    told[message] = true
    log.warn(message)
  end
  return one
end

-- A function of a service that keeps its answers. A service that has changed is another table, asked about anew.
local function kept(ask)
  local answers = setmetatable({}, { __mode = "k" })
  return function(service)
    local answer = answers[service]
    if answer == nil then
      answer = ask(service) or false
      if getmetatable(service) == "read-only" then answers[service] = answer end
    end
    return answer
  end
end

-- The addresses that a service shares with others, and its host names; false if it shares none.
local sharing = kept(function(service)
  local addresses = service.listener.shared
  return addresses[1] and { addresses = addresses, hosts = discover.hosts(service) }
end)

-- The addresses that services share, and which service has each host name there: the names, sorted, and the services.
function discover.virtual_hosts(services)
  local addresses, names, owners, known = {}, {}, {}, {}
  for i = 1, #services do
    local service = services[i]
    local own = sharing(service)
    if own then
      for _, address in ipairs(own.addresses) do
        if not known[address] then addresses[#addresses + 1], known[address] = address, true end
      end
      for _, host in ipairs(own.hosts) do
        if not owners[host] then names[#names + 1] = host end
        owners[host] = owners[host] and older(host, owners[host], service) or service
      end
    end
  end
  table.sort(names)
  return addresses, names, owners
end

-- For each target, whether it can route to a service.
local accepts = {}

-- The files that there should be, made of the services that have got an address: `service.listener`.
function discover.files(services)
  local files = {}
  for _, target in ipairs(discover.targets) do
    local accept = accepts[target] or kept(function(service) return target.accept(service) end)
    accepts[target] = accept
    local accepted, length = {}, 0
    for i = 1, #services do
      local service = services[i]
      if accept(service) then
        length = length + 1
        accepted[length] = service
      end
    end
    for _, file in ipairs(target.files(accepted, discover)) do files[#files + 1] = file end
  end
  return files
end

-- Keeps the proxy in step for ever.
function discover.run()
  if not discover.targets[1] then
    error("`--proxy none` needs a target: add `--set target=file_sd`, or set `discover.targets` in a script", 0)
  end
  for services in etcd.services(discover.service) do
    proxy.sync(services, discover.listener, discover.files)
  end
end

-- With the types of the results of a site's functions. `listener` and `files` are checked where they are used.
return decisions.guard("discover", discover, {
  service = "table|boolean|nil, string?",
  accept = "boolean, string?",
  hosts = "table, string?",
  mode = "string",
  responses = "integer?",
  loopback = "string",
  listen = "table|string?",
  name = "string|number",
  options = "string?",
  head = "string",
  virtual_hosts = "table, table, table",
})
