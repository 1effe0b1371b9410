-- HAProxy, 2.6 and newer: TCP, and HTTP by host names. Use it unless you need UDP: servers come and go without a
-- reload, and are checked.
--
--   docker-register discover

local proxy = require "proxy"

local haproxy = {}

-- Checks that notice a host that died without a word by the traffic to it, and ask a quiet server rarely: each host of
-- the fleet asks each container.
haproxy.checks = "check inter 10s fastinter 500ms downinter 1s rise 1 fall 2 "
  .. "observe layer4 error-limit 3 on-error fail-check"

-- The options of each server.
haproxy.options = haproxy.checks

-- Whether HAProxy can route to a service, and if not, why.
function haproxy.accept(service)
  if service.protocol ~= "tcp" then return false, "HAProxy has no " .. service.protocol end
  -- A byte becomes four at most, and this is asked of each service at each change.
  local is_long = #service.name > 50 and #haproxy.identifier(service.name) > 200
  if is_long then return false, "its name is too long for HAProxy" end
  return true
end

-- A name for HAProxy, which has no other characters than these. Two texts never get one name: `:x` begins a byte that
-- HAProxy's names do not have.
function haproxy.identifier(text)
  return (text:gsub(":x", ":x3ax"):gsub("[^%w_.:-]", function(char) return (":x%02x"):format(char:byte()) end))
end

-- The name of a service's section.
function haproxy.section(service)
  return haproxy.identifier(service.name) .. "." .. service.index
end

-- `global`, for the sockets and files that `proxy` names.
function haproxy.global(proxy)
  return table.concat({
    "global",
    "  stats socket " .. proxy.socket .. " mode 600 level admin expose-fd listeners",
    "  server-state-file " .. proxy.state_file,
    "  # Long connections keep an old process alive: for an hour, and twenty processes, at most.",
    "  hard-stop-after 1h",
    "  mworker-max-reloads 20",
    "  spread-checks 20",
    "",
    "",
  }, "\n")
end

function haproxy.defaults()
  return table.concat({
    "defaults",
    "  mode tcp",
    "  # Not `random`: of several servers that are added at run time, 2.6.12 would ask only the first and the last.",
    "  balance leastconn",
    "  # A server that does not answer costs a request half a second, and no request is lost to it.",
    "  timeout connect 500ms",
    "  retries 3",
    "  option redispatch 1",
    "  timeout client 1h",
    "  timeout server 1h",
    "  option clitcpka",
    "  option srvtcpka",
    "  load-server-state-from-file global",
    "",
    "",
  }, "\n")
end

-- HAProxy's own page, on a socket beside `proxy.socket`. HAProxy does not start without any listener.
function haproxy.stats(proxy)
  return table.concat({
    "listen stats",
    "  bind unix@" .. proxy.socket:gsub("[^/]*$", "") .. "stats.sock mode 600",
    "  mode http",
    "  timeout client 1m",
    "  stats enable",
    "  stats uri /",
    "",
    "",
  }, "\n")
end

-- What a section in HTTP mode has besides. A request that may be sent twice is, if its server was lost.
haproxy.http = table.concat({
  "  mode http",
  "  timeout client 1m",
  "  timeout server 1m",
  "  timeout tunnel 1h",
  "  timeout http-request 30s",
  "  option idle-close-on-response",
  "  option forwardfor",
  "  retry-on conn-failure empty-response response-timeout",
  "  http-request disable-l7-retry unless { method GET HEAD OPTIONS }",
  "",
}, "\n")

-- The servers of a backend, which can change without a reload. `frontend` refuses connections while there is none.
function haproxy.servers(backend, frontend, servers)
  local lines = {}
  for i, server in ipairs(servers) do
    lines[i] = "  server " .. server.name .. " " .. server.address .. " " .. server.options
  end
  return proxy.read_only {
    backend = backend, frontend = frontend, servers = servers, lines = proxy.read_only(lines),
  }
end

-- The section of a service, as pieces of a file's text. Without an address of its own it is a backend alone.
function haproxy.listen(service, mode)
  local name, listener = haproxy.section(service), service.listener
  local has_own = listener.listen[1] ~= nil
  local lines = { (has_own and "listen " or "backend ") .. name }
  for _, address in ipairs(listener.listen) do lines[#lines + 1] = "  bind " .. address end
  local text = table.concat(lines, "\n") .. "\n" .. (mode == "http" and haproxy.http or "")
  return { text, haproxy.servers(name, has_own and name or nil, listener.servers), "\n" }
end

-- A frontend on shared addresses that finds the service of a request by its host name.
function haproxy.by_host(name, addresses, hosts)
  local lines = { "frontend " .. name }
  for _, address in ipairs(addresses) do lines[#lines + 1] = "  bind " .. address end
  lines[#lines + 1] = "  mode http\n  timeout client 1m\n  timeout http-request 30s\n  option idle-close-on-response"
  local names = {}
  for host in pairs(hosts) do names[#names + 1] = host end
  table.sort(names)
  for _, host in ipairs(names) do
    lines[#lines + 1] = "  use_backend " .. haproxy.section(hosts[host])
      .. " if { req.hdr(host),field(1,:),lower -m str " .. host .. " }"
  end
  return table.concat(lines, "\n") .. "\n\n"
end

-- The sections so far, by service. A service is another table when it has changed.
local sections = setmetatable({}, { __mode = "k" })

-- The file with all services.
function haproxy.files(services, discover)
  local text, length = { discover.head() }, 1
  for i = 1, #services do
    local service = services[i]
    local section = sections[service]
    if not section then
      section = haproxy.listen(service, discover.mode(service))
      if getmetatable(service) == "read-only" then sections[service] = section end
    end
    for k = 1, #section do
      length = length + 1
      text[length] = section[k]
    end
  end
  local addresses, _, owners = discover.virtual_hosts(services)
  if addresses[1] then text[length + 1] = haproxy.by_host("http", addresses, owners) end
  return { { name = "haproxy.cfg", text = text } }
end

return haproxy
