-- Renaming a container drains it: its keys are removed at once, and it goes on serving clients that still know it.
--
--   docker rename web-1 web-1-drain     and rename it back to register it again
--
-- A label cannot do this, because Docker cannot change the labels of an existing container. It can change the name, in
-- every kind of network and without a restart, and sends the registrar an event at once.
--
--   docker-register --script drain.lua
--
-- Setting: suffix, the end of a drained container's name (-drain).
local options, register = require "options", require "register"

local suffix = options.suffix or "-drain"
local default = register.accept

function register.accept(container)
  if container.name:sub(-#suffix) == suffix then return false, "its name ends with " .. suffix end
  return default(container)
end

return register
