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
  for _, port in ipairs(ports) do
    if port.protocol == "tcp" then
      local service, own = register.service(container, port), "SERVICE_" .. port.port .. "_NAME"
      local named = container.labels[own] or container.env[own]
      if #ports > 1 and not named then service = service .. "-" .. port.port end
      local key = register.prefix .. "/" .. etcd.key(service, register.member(container))
      -- 0 is the operation `Add`, the only one that stands in a key.
      local endpoint = { Op = 0, Addr = register.address(container, port), Metadata = json.null }
      entries[#entries + 1] = { key = key:gsub("^/", ""), value = json.encode(endpoint), ttl = register.ttl }
    else
      left_out[#left_out + 1] = "port " .. port.port .. "/" .. port.protocol .. ": gRPC is spoken over TCP"
    end
  end
  return entries, left_out
end)
