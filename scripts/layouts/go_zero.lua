-- The layout of go-zero's discovery:
--
--   <service>/<number>   1.2.3.4:32768
--
-- Use it where go-zero's clients (zrpc) find servers that run in containers and do not register themselves. A client's
-- `Etcd.Key` is the service's name, and SERVICE_NAME=user.rpc keeps a key that is in use. A container with several
-- ports has a service for each, `<service>-<port>`, unless SERVICE_<port>_NAME names it.
--
--   docker-register --script go_zero --prefix /
--
-- With another --prefix than `/`, keys begin with it: `backends/user.rpc`. There are no settings.
local etcd, register = require "etcd", require "register"

return register.layout(function(container)
  local entries, ports, left_out = {}, register.ports(container)
  for _, port in ipairs(register.tcp_ports(ports, left_out, "go-zero speaks TCP")) do
    local service = etcd.segment("the service name", register.port_service(container, port, #ports), container)
    -- go-zero itself uses a lease id as the number. A container's short id is as unique: 48 bits.
    local key = register.prefix .. "/" .. etcd.key(service, tonumber(container.short_id, 16))
    local address, check = register.address(container, port), register.checked(container, port)
    entries[#entries + 1] = { key = key:gsub("^/", ""), value = address, ttl = register.ttl, check = check }
  end
  return entries, left_out
end)
