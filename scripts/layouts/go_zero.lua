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
-- With another --prefix than `/`, the key has it in front: `backends/user.rpc`. There are no settings.
local etcd, register = require "etcd", require "register"

return register.layout(function(container)
  local entries, ports, left_out = {}, register.ports(container)
  for _, port in ipairs(ports) do
    if port.protocol == "tcp" then
      local service, own = register.service(container, port), "SERVICE_" .. port.port .. "_NAME"
      local named = container.labels[own] or container.env[own]
      if #ports > 1 and not named then service = service .. "-" .. port.port end
      -- go-zero has a lease's id there. A container's own is as good: 48 bits that no other container has.
      local key = register.prefix .. "/" .. etcd.key(service, tonumber(container.short_id, 16))
      local address = register.address(container, port)
      entries[#entries + 1] = { key = key:gsub("^/", ""), value = address, ttl = register.ttl }
    else
      left_out[#left_out + 1] = "port " .. port.port .. "/" .. port.protocol .. ": go-zero speaks TCP"
    end
  end
  return entries, left_out
end)
