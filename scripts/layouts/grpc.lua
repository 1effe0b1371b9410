-- gRPC's etcd naming, which go.etcd.io/etcd/client/v3/naming reads:
--
--   backends/<service>/<container>   {"Addr":"1.2.3.4:32768","Metadata":null,"Op":0}
--
-- Use it where gRPC clients written in Go balance their calls by themselves. They dial `etcd:///backends/<service>/`:
-- the resolver drops the slash in front, so the keys have none, and without the one at the end `web` is `web2` as well.
-- A container with several ports has a service for each, `<service>-<port>`, unless SERVICE_<port>_NAME names it.
--
--   docker-register --script grpc
--
-- It has no settings of its own; --prefix says what the keys begin with, and `/` that it is nothing.
local etcd, json, register = require "etcd", require "json", require "register"

return register.layout(function(container)
  local entries, ports, left_out = {}, register.ports(container)
  for _, port in ipairs(register.tcp_ports(ports, left_out, "gRPC is spoken over TCP")) do
    local service = etcd.segment("the service name", register.port_service(container, port, #ports), container)
    local key = register.prefix .. "/" .. etcd.key(service, register.member(container))
    -- 0 is the operation `Add`, the only one that stands in a key.
    local endpoint = { Op = 0, Addr = register.address(container, port), Metadata = json.null }
    entries[#entries + 1] = { key = key:gsub("^/", ""), value = json.encode(endpoint), ttl = register.ttl }
  end
  return entries, left_out
end)
