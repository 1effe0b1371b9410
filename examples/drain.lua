-- A container is drained by its name: its keys go at once, it keeps running and serves whoever still knows it.
--
--   docker rename web-1 web-1-drain     and back again, to register it anew
--
-- A label cannot do this: Docker does not change the labels of a container that exists. It does change its name, in
-- every kind of network and without a restart, and the registrar is told at once.
--
--   docker-register --script drain.lua
--
-- Setting: suffix, how the name of a drained container ends (-drain).
local options, register = require "options", require "register"

local suffix = options.suffix or "-drain"
local default = register.accept

function register.accept(container)
  if container.name:sub(-#suffix) == suffix then return false, "its name ends with " .. suffix end
  return default(container)
end

return register
