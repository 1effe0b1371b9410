-- Registers Swarm's tasks at their own address in an overlay network, with the ports that they listen on, and under
-- their service's name: `<stack>_<service>`. Use it where the clients are in that network too. Swarm publishes ports
-- for a service, on every node, and not for its tasks. All other containers are registered as by default.
--
--   docker-register --script swarm_tasks.lua --set network=NAME
--
-- Setting: network, the overlay network's name, such as shop_default; there is no default. `ingress` is none, because
-- clients cannot be in it.
local options, register = require "options", require "register"

local network = options.network or error("which overlay network: --set network=NAME")
if network == "ingress" then error("no client can be in ingress, so name another overlay network") end
local accept, accept_port = register.accept, register.accept_port
local endpoint, service = register.endpoint, register.service

local function swarm_service(container)
  return container.labels["com.docker.swarm.service.name"]
end

-- The port as if it were published at the task's own address, so that the default decisions apply.
local function published(container, port)
  if not swarm_service(container) then return port end
  local own = container.networks[network]
  local binding = { ip = own.ip or own.ip6, port = port.port }
  return setmetatable({ host_ip = binding.ip, host_port = binding.port, bindings = { binding } }, { __index = port })
end

function register.accept(container)
  local own = container.networks[network]
  if swarm_service(container) and not (own and (own.ip or own.ip6)) then
    return false, "it is a Swarm task without an address in the network " .. network
  end
  return accept(container)
end

function register.accept_port(container, port) return accept_port(container, published(container, port)) end
function register.endpoint(container, port) return endpoint(container, published(container, port)) end
function register.service(container, port) return swarm_service(container) or service(container, port) end

return register
