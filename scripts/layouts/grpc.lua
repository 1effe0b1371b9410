-- gRPC's etcd naming, which go.etcd.io/etcd/client/v3/naming reads:
--
--   backends/<service>/<container>   {"Addr":"1.2.3.4:32768","Metadata":null,"Op":0}
--
-- Use it where gRPC clients in Go balance their calls themselves. They dial `etcd:///backends/<service>/`. The
-- resolver drops the first slash, so the keys have none. Without the last slash, `web` would match `web2` too.
-- A container with several ports has a service for each, `<service>-<port>`, unless SERVICE_<port>_NAME names it.
--
--   docker-register --script grpc
--
-- It has no settings of its own; --prefix sets the beginning of the keys, and `/` means none.
local etcd, json, register = require "etcd", require "json", require "register"

return register.layout(function(container)
  local entries, ports, left_out = {}, register.ports(container)
  for _, port in ipairs(register.tcp_ports(ports, left_out, "gRPC is spoken over TCP")) do
    local service = etcd.segment("the service name", register.port_service(container, port, #ports), container)
    local key = register.prefix .. "/" .. etcd.key(service, register.member(container))
    -- 0 is the operation `Add`, the only one that occurs in stored values.
    local endpoint = { Op = 0, Addr = register.address(container, port), Metadata = json.null }
    local value, check = json.encode(endpoint), register.checked(container, port)
    entries[#entries + 1] = { key = key:gsub("^/", ""), value = value, ttl = register.ttl, check = check }
  end
  return entries, left_out
end)
