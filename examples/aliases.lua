-- Registers a container under further names, such as the old one of a service that was renamed:
--
--   docker run --label SERVICE_NAME=payments --label SERVICE_ALIASES=pay,billing …
--
-- The keys of an alias are those of the service with the other name. Each reader takes it for a service of its own.
--
--   docker-register --script aliases.lua
--
-- The label is SERVICE_ALIASES, names with commas between them; there are no settings.
local etcd, register = require "etcd", require "register"

local entries = register.entries

function register.entries(container)
  local list, left_out = entries(container)
  for _, port in ipairs(register.ports(container)) do
    for alias in (container.labels.SERVICE_ALIASES or ""):gmatch("[^,%s]+") do
      local check = register.checked(container, port)
      local directory = register.prefix .. "/" .. etcd.key(etcd.segment("the alias", alias, container), port.index)
      list[#list + 1] = {
        key = directory .. "/" .. etcd.key(register.member(container)),
        value = register.value(container, port),
        ttl = register.ttl,
        check = check,
      }
      list[#list + 1] = {
        key = directory .. "/port",
        value = register.port_value(container, port),
        ttl = register.ttl,
        shared = true,
        check = check,
      }
    end
  end
  return list, left_out
end

return register
