-- Registers containers at their own address in a network that spans hosts, such as an overlay or a macvlan, with the
-- port that they listen on, published or not. A container outside the network is left out, and so is a one-off of
-- `docker compose run`, which does not serve.
--
--   docker-register --script network_address.lua --set network=NAME
--
-- Setting: network, the network's name; there is no default. Where the network has both IPv4 and IPv6, the address has
-- the family of --host-ip.
local options, register = require "options", require "register"

local name = options.network or error("which network: --set network=NAME")
local accept, accept_port, endpoint = register.accept, register.accept_port, register.endpoint

-- The port as if it were published at the container's own address, so that the default decisions apply.
local function published(container, port)
  local network = container.networks[name]
  local ip = register.host_ip:find(":", 1, true) and network.ip6 or network.ip or network.ip6
  local binding = { ip = ip, port = port.port }
  return setmetatable({ host_ip = ip, host_port = port.port, bindings = { binding } }, { __index = port })
end

function register.accept(container)
  local network = container.networks[name]
  if not (network and (network.ip or network.ip6)) then return false, "it has no address in the network " .. name end
  local one_off = container.labels["com.docker.compose.oneoff"] or ""
  if one_off:lower() == "true" then return false, "it is a one-off of `docker compose run`" end
  return accept(container)
end

function register.accept_port(container, port)
  return accept_port(container, published(container, port))
end

function register.endpoint(container, port)
  return endpoint(container, published(container, port))
end

return register
