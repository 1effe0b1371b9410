-- Registers containers at their own address in a network that spans hosts, such as an overlay or a macvlan, with the
-- port that they listen on, published or not. A container outside the network is left out.
--
--   docker-register --script network_address.lua --set network=NAME
--
-- Setting: network, the network's name; there is no default. IPv4 is preferred where the network has both.
local options, register = require "options", require "register"

local name = options.network or error("which network: --set network=NAME")
local accept, accept_port, address = register.accept, register.accept_port, register.address

-- The port as if it were published at the container's own address, so that the default decisions apply.
local function published(container, port)
  local network = container.networks[name]
  local binding = { ip = network.ip or network.ip6, port = port.port }
  return setmetatable({ host_ip = binding.ip, host_port = binding.port, bindings = { binding } }, { __index = port })
end

function register.accept(container)
  local network = container.networks[name]
  if not (network and (network.ip or network.ip6)) then return false, "it has no address in the network " .. name end
  return accept(container)
end

function register.accept_port(container, port)
  return accept_port(container, published(container, port))
end

function register.address(container, port)
  return address(container, published(container, port))
end

return register
