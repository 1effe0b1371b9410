-- DNS, by CoreDNS's etcd plugin: the layout of SkyDNS. The containers of `web` are web.example.org (SRV records have
-- their ports), and each is <container>-<port>.web.example.org:
--
--   /skydns/org/example/web/<container>-<port>   {"host":"1.2.3.4","port":32768,"ttl":30}
--
--   docker-register --script coredns --set domain=example.org
--
-- Names become DNS labels: in lower case, with `-` for `_`. Any other change is an error, because two names could then
-- be one. A container with several ports has a service for each, `<service>-<port>`, unless SERVICE_<port>_NAME names
-- it. The record of a protocol other than TCP ends with it: `<container>-53-udp`. Settings, with their defaults: domain
-- (skydns.local); path, as in the Corefile (/skydns; --prefix is not used); record_ttl, the seconds that a resolver may
-- cache an answer (30).
local etcd, json, options, register = require "etcd", require "json", require "options", require "register"

local ttl = math.tointeger(options.record_ttl or 30) or error("record_ttl is a whole number of seconds")
local zone = ""
for part in (options.domain or "skydns.local"):gmatch("[^.]+") do zone = "/" .. part:lower() .. zone end
zone = "/" .. (options.path or "skydns"):gsub("^/*(.-)/*$", "%1") .. zone

return register.layout(function(container)
  local entries, ports, left_out = {}, register.ports(container)
  for _, port in ipairs(ports) do
    local service = register.dns_label(register.port_service(container, port, #ports))
    local member = register.member(container) .. "-" .. port.port
    if port.protocol ~= "tcp" then member = member .. "-" .. port.protocol end
    local host, number = register.endpoint(container, port)
    local value = json.encode { host = host, port = number, ttl = ttl }
    local key = zone .. "/" .. etcd.key(service, register.dns_label(member))
    local check = register.checked(container, port)
    entries[#entries + 1] = { key = key, value = value, ttl = register.ttl, check = check }
  end
  return entries, left_out
end)
