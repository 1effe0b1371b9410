-- Traefik v3's etcd or Redis provider: a router and a service for each service, a server for each container.
--
--   traefik/http/routers/<service>/rule                            Host(`<service>.<domain>`)    shared, like `service`
--   traefik/http/services/<service>/loadbalancer/servers/<n>/url   http://1.2.3.4:32768          owned
--
-- Run `--script traefik --set domain=example.org`, on Redis with --ttl 300. Settings: domain (localhost), entrypoints
-- (of http), root (traefik; --prefix is not used). Labels, `traefik.<port>.X` before `traefik.X`: enable (false: left
-- out), protocol (http, tcp), rule, entrypoints (with commas; tcp, udp need them). Names are DNS labels: `_` becomes
-- `-`. `<service>` is `<service>-<port>` if there are several and no SERVICE_<port>_NAME. Routers go a TTL later.
local etcd, options, register = require "etcd", require "options", require "register"

return register.layout(function(container)
  local check, entries, labels, ports, left_out = nil, {}, container.labels, register.ports(container)
  local function put(shared, value, ...)
    local key = (options.root or "traefik") .. "/" .. etcd.key(...)
    entries[#entries + 1] = { key = key, value = value, ttl = register.ttl, shared = shared, check = check }
  end
  for _, port in ipairs(ports) do
    local function label(name) return labels["traefik." .. port.port .. "." .. name] or labels["traefik." .. name] end
    local kind = port.protocol == "udp" and "udp" or label("protocol") or "http"
    local why = (label("enable") or ""):lower() == "false" and "its label traefik.enable is false"
      or port.protocol == "sctp" and "Traefik forwards no SCTP"
      or port.protocol == "tcp" and kind == "udp" and "its label traefik.protocol is udp"
    if why then left_out[#left_out + 1] = "port " .. port.port .. "/" .. port.protocol .. ": " .. why goto next_port end
    local field = ({ http = "url", tcp = "address", udp = "address" })[kind] or error("Traefik speaks no " .. kind)
    local entrypoints = label("entrypoints") or kind == "http" and (options.entrypoints or "")
    if not entrypoints then error("label it traefik.entrypoints=NAME, where Traefik takes its " .. kind) end
    local name = register.dns_label(register.port_service(container, port, #ports))
    if not name:find("%D") then error("Traefik takes the name `" .. name .. "` for an index: set SERVICE_NAME=NAME") end
    check = register.checked(container, port)
    local rule = kind == "http" and "Host(`" .. name .. "." .. (options.domain or "localhost") .. "`)" or "HostSNI(`*`)"
    if kind ~= "udp" then put(true, label("rule") or rule, kind, "routers", name, "rule") end
    if entrypoints ~= "" then put(true, entrypoints, kind, "routers", name, "entrypoints", 0) end
    put(true, name, kind, "routers", name, "service")
    local url = (kind == "http" and "http://" or "") .. register.address(container, port)
    put(false, url, kind, "services", name, "loadbalancer", "servers", tonumber(container.short_id, 16), field)
    ::next_port::
  end
  return entries, left_out
end)
