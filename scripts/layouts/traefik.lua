-- Traefik v3's etcd provider: a router and a service for each service, a server for each container.
--
--   traefik/http/routers/<service>/rule                            Host(`<service>.<domain>`)    shared, like `service`
--   traefik/http/services/<service>/loadbalancer/servers/<n>/url   http://1.2.3.4:32768          owned
--
-- Run it with `--script traefik --set domain=example.org`. Settings: domain (localhost), entrypoints (of http), root
-- (traefik; --prefix is not used). Labels, `traefik.<port>.X` before `traefik.X`: protocol (http, tcp or udp), rule,
-- entrypoints (with commas; tcp and udp need them). With several ports, `<service>` is `<service>-<port>`, unless
-- SERVICE_<port>_NAME names it. A router stays for one TTL after its last server, because its lease must expire first;
-- Traefik answers 404 meanwhile.
local etcd, options, register = require "etcd", require "options", require "register"

return register.layout(function(container)
  local entries, labels, ports, left_out = {}, container.labels, register.ports(container)
  local function put(shared, value, ...)
    local key = (options.root or "traefik") .. "/" .. etcd.key(...)
    entries[#entries + 1] = { key = key, value = value, ttl = register.ttl, shared = shared }
  end
  for _, port in ipairs(ports) do
    local function label(name) return labels["traefik." .. port.port .. "." .. name] or labels["traefik." .. name] end
    local kind = label("protocol") or port.protocol == "udp" and "udp" or "http"
    local field = ({ http = "url", tcp = "address", udp = "address" })[kind] or error("Traefik speaks no " .. kind)
    local entrypoints = label("entrypoints") or kind == "http" and (options.entrypoints or "")
    if not entrypoints then error("label it traefik.entrypoints=NAME, where Traefik takes its " .. kind) end
    -- Traefik reads a name of digits as a list index, and text after `@` as a provider.
    local name = register.port_service(container, port, #ports):lower()
    name = name:gsub("[^a-z0-9]+", "-"):gsub("^-*(.-)-*$", "%1"):gsub("^%d+$", "service-%0")
    local rule = kind == "http" and "Host(`" .. name .. "." .. (options.domain or "localhost") .. "`)" or "HostSNI(`*`)"
    if kind ~= "udp" then put(true, label("rule") or rule, kind, "routers", name, "rule") end
    if entrypoints ~= "" then put(true, entrypoints, kind, "routers", name, "entrypoints", 0) end
    put(true, name, kind, "routers", name, "service")
    local url = (kind == "http" and "http://" or "") .. register.address(container, port)
    put(false, url, kind, "services", name, "loadbalancer", "servers", tonumber(container.short_id, 16), field)
  end
  return entries, left_out
end)
