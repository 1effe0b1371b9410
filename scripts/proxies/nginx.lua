-- nginx, 1.18 and newer: TCP and UDP by its stream module, and HTTP by host names. Use it where nginx runs already, or
-- for UDP. Each change is a reload: no connection is refused, but idle ones of HTTP are closed, which may cost a
-- request that is just being sent. Open connections keep an old worker for an hour at most.
--
--   docker-register discover --proxy nginx
--
-- Settings: nginx_modules, the files that load nginx's modules (Debian's, /etc/nginx/modules-enabled/*.conf, which need
-- not exist); responses, the number of datagrams that answer one: without it, each reload breaks the sessions of UDP.
local defaults = require "nginx.defaults"

local nginx = { head = defaults.head, http = defaults.http, stream = defaults.stream }

-- A server that fails is left alone for five seconds, unless it is the only one.
nginx.options = "max_fails=1 fail_timeout=5s"

function nginx.accept(service)
  if service.protocol == "sctp" then return false, "nginx has no sctp" end
  return true
end

-- Servers have no names in nginx.
function nginx.identifier(text) return text end

-- A name in lower case, because capital letters make no difference there. Two texts never get one name: `_x` begins a
-- byte that the names do not have.
function nginx.name(text)
  return (text:gsub("_x", "_x5fx"):gsub("[^%l%d_.-]", function(char) return ("_x%02x"):format(char:byte()) end))
end

local function section(service)
  return nginx.name(service.name) .. "." .. service.index
end

local function upstream(service)
  local lines = { "  upstream " .. section(service) .. " {\n    least_conn;\n" }
  for _, server in ipairs(service.listener.servers) do
    lines[#lines + 1] = "    server " .. server.address .. " " .. server.options .. ";\n"
  end
  -- An upstream without any server would refuse the whole file.
  if not lines[2] then lines[2] = "    server 127.0.0.1:1 down;\n" end
  return table.concat(lines) .. "  }\n"
end

-- A server on these addresses, each with these options.
local function server(addresses, options, text)
  local lines = { "  server {\n" }
  for _, address in ipairs(addresses) do lines[#lines + 1] = "    listen " .. address .. options .. ";\n" end
  return table.concat(lines) .. text .. "  }\n"
end

local function http_to(service)
  return "    location / {\n      proxy_pass http://" .. section(service) .. ";\n    }\n"
end

local function udp_to(service, responses)
  local answers = responses and "    proxy_responses " .. responses .. ";\n" or ""
  return "    proxy_timeout 1m;\n" .. answers .. "    proxy_pass " .. section(service) .. ";\n"
end

function nginx.files(services, discover)
  local http, stream = {}, {}
  for _, service in ipairs(services) do
    local mode, own, block, text = discover.mode(service), service.listener.listen, stream, nil
    local listen = " so_keepalive=on"
    if mode == "http" then
      block, text = http, http_to(service)
    elseif mode == "udp" then
      listen, text = " udp", udp_to(service, discover.responses(service))
    else
      text = "    proxy_pass " .. section(service) .. ";\n"
    end
    block[#block + 1] = upstream(service)
    if own[1] then block[#block + 1] = server(own, listen, text) end
  end
  local shared, hosts, owners = discover.virtual_hosts(services)
  if shared[1] then http[#http + 1] = server(shared, " default_server so_keepalive=on", "    return 503;\n") end
  for _, host in ipairs(hosts) do
    http[#http + 1] = server(shared, "", "    server_name " .. host .. ";\n" .. http_to(owners[host]))
  end
  local text = nginx.head()
  if http[1] then text = text .. "http {\n" .. nginx.http .. table.concat(http) .. "}\n" end
  if stream[1] then text = text .. "stream {\n" .. nginx.stream .. table.concat(stream) .. "}\n" end
  return { { name = "nginx.conf", text = text } }
end

return nginx
