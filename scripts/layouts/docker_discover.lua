-- The layout of jwilder/docker-register, which jwilder/docker-discover and its forks read: one port for each service.
--
--   /backends/<service>/<container>   1.2.3.4:32768      one for each container: owned
--   /backends/<service>/port          8005               one for all of them: shared
--
-- Use it with a docker-discover that uses etcd v3. It reads only keys of three segments, so a container with several
-- ports has a service for each, `<service>-<port>`, unless SERVICE_<port>_NAME names it.
--
--   docker-register --script docker_discover
--
-- It has no settings of its own. docker-discover reads keys below /backends only, the default of --prefix.
local etcd, register = require "etcd", require "register"

return register.layout(function(container)
  local entries, ports, left_out = {}, register.ports(container)
  for _, port in ipairs(register.tcp_ports(ports, left_out, "HAProxy forwards TCP alone")) do
    local service = register.port_service(container, port, #ports)
    local directory = register.prefix .. "/" .. etcd.segment("the service name", service, container)
    local check = register.checked(container, port)
    entries[#entries + 1] = {
      key = directory .. "/" .. etcd.key(register.member(container)),
      value = register.address(container, port),
      ttl = register.ttl,
      check = check,
    }
    entries[#entries + 1] = {
      key = directory .. "/port", value = port.port, ttl = register.ttl, shared = true, check = check,
    }
  end
  return entries, left_out
end)
