-- The etcd layout of gliderlabs/registrator, which templates of confd and remco read:
--
--   /services/<service>/<host>:<container name>:<exposed port>        1.2.3.4:32768
--   /services/<service>/<host>:<container name>:<exposed port>:udp    1.2.3.4:32769     :sctp likewise
--
-- Use it to replace registrator and keep such templates. As in registrator, a container that publishes several ports
-- has a service for each, `<service>-<port>`, unless SERVICE_<port>_NAME names it.
--
--   docker-register --script registrator --prefix /services --set host=$(hostname) --set protocols=tcp,udp
--
-- Set --prefix to the path at the end of registrator's URI, which its readers know. Settings: host, the name that
-- tells hosts apart (by default the host's address).
local etcd, options, register = require "etcd", require "options", require "register"

return register.layout(function(container)
  local entries, ports, left_out = {}, register.ports(container)
  local published = 0
  for _, port in ipairs(container.ports) do published = published + (port.host_port and 1 or 0) end
  for _, port in ipairs(ports) do
    local service = etcd.segment("the service name", register.port_service(container, port, published), container)
    local id = (options.host or register.host_ip) .. ":" .. container.name .. ":" .. port.port
    if port.protocol ~= "tcp" then id = id .. ":" .. port.protocol end
    local key = register.prefix .. "/" .. etcd.key(service, id)
    local address, check = register.address(container, port), register.checked(container, port)
    entries[#entries + 1] = { key = key, value = address, ttl = register.ttl, check = check }
  end
  return entries, left_out
end)
