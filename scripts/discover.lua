-- The default policy of `docker-register discover`: HAProxy on every host routes to the services that are registered.
--
--   /backends/<service>/<n>/<container>   1.2.3.4:32768      a member
--   /backends/<service>/<n>/port          8005               the port that the service is reached at on every host
--   /backends/<service>/<n>/http          a.example.com      an attribute: its host names, with commas between them
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
  prefix = options.prefix,                                   -- the beginning of every key
  bind = options.bind and split(options.bind) or default_bind(), -- the addresses of this host that services listen on
  http_bind = options.http_bind or "127.0.0.1:80",           -- the address that all services with host names share
  http = split(options.http),                                -- services that speak HTTP and have registered no host name
  server_options = options.server or haproxy.checks,         -- HAProxy's options of each server
  attributes = { http = true },                              -- keys beside `port` that are no containers
}

-- Where a key belongs; nil and the reason if it is left out.
function discover.service(key, value)
  local service, index, part = key:sub(#discover.prefix + 2):match("^([^/]+)/(%d+)/([^/]+)$")
  if not service then return nil, "it is not " .. discover.prefix .. "/<service>/<n>/<container>" end
  if part == "port" then return { service = service, index = index, port = value } end
  if discover.attributes[part] then
    return { service = service, index = index, attribute = part, value = value }
  end
  return { service = service, index = index, member = part, address = value }
end

-- Whether a service gets a route, and if not, why.
function discover.accept(service)
  if service.protocol ~= "tcp" then return false, "HAProxy has no " .. service.protocol end
  if #haproxy.identifier(service.name) > 200 then return false, "its name is too long for HAProxy" end
  return true
end

-- The host names of a service, in lower case; none if it is not reached by them. The second result is one that no
-- request can have.
function discover.hosts(service)
  local hosts, bad = {}, nil
  for _, host in ipairs(split(service.attributes.http)) do
    host = host:lower()
    if host:find("^[%w.-]+$") then hosts[#hosts + 1] = host else bad = host end
  end
  return hosts, bad
end

-- "http" or "tcp".
function discover.mode(service)
  if service.attributes.http then return "http" end
  for _, name in ipairs(discover.http) do
    if name == service.name then return "http" end
  end
  return "tcp"
end

-- The addresses that a service has for itself.
function discover.listen(service)
  local listen = {}
  for i, ip in ipairs(discover.bind) do
    if ip:find(":", 1, true) then ip = "[" .. ip .. "]" end
    listen[i] = ip .. ":" .. service.port
  end
  return listen
end

-- The name of a member's server. A container that restarts gets another port, and with it another server.
function discover.name(service, member)
  return haproxy.identifier(member.name .. "_" .. member.host .. ":" .. member.port)
end

-- HAProxy's options of a member's server.
function discover.options(service, member)
  return discover.server_options
end

-- The listener of a service: it is called when the service has changed. nil and the reason leave the service out.
function discover.listener(service)
  local accepted, why = discover.accept(service)
  if not accepted then return nil, why or "it is not accepted" end
  local hosts, bad = discover.hosts(service)
  if bad then error("its host name `" .. bad .. "` has other characters than a to z, 0 to 9, `.` and `-`") end
  local servers = {}
  for _, member in ipairs(service.members) do
    servers[#servers + 1] = {
      name = discover.name(service, member),
      address = member.address,
      options = discover.options(service, member),
    }
  end
  return {
    listen = discover.listen(service),
    shared = hosts[1] and discover.http_bind or nil,
    servers = servers,
  }
end

-- The beginning of the configuration. A site whose HAProxy reads several files may leave out what another file has.
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

-- The files that there should be, made of the services that have got an address: `service.listener`.
function discover.files(services)
  local text, shared, hosts, known = { discover.head() }, {}, {}, {}
  for _, service in ipairs(services) do
    local mode = discover.mode(service)
    for _, piece in ipairs(haproxy.listen(service, mode)) do text[#text + 1] = piece end
    if service.listener.shared[1] then
      for _, address in ipairs(service.listener.shared) do
        if not known[address] then shared[#shared + 1], known[address] = address, true end
      end
      for _, host in ipairs(discover.hosts(service)) do
        hosts[host] = hosts[host] and older(host, hosts[host], service) or service
      end
    end
  end
  if shared[1] then text[#text + 1] = haproxy.by_host("http", shared, hosts) end
  return { { name = "haproxy.cfg", text = text } }
end

-- Keeps the proxy in step for ever.
function discover.run()
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
  listen = "table|string?",
  name = "string|number",
  options = "string?",
  head = "string",
})
