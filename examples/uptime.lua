-- Registers a container only when it has run for five seconds, so that one that crashes at its start, again and again,
-- is never registered. Other checks of the container are made too.
--
--   docker-register --script uptime.lua --set uptime=5
--
-- Setting: uptime, the seconds; 5 if it is not set.
local options, register = require "options", require "register"

local uptime = tonumber(options.uptime or 5) or error("uptime is a number of seconds: --set uptime=5")
local check = register.check

function register.check(container, port)
  local with_uptime = { uptime = uptime }
  for name, value in pairs(check(container, port) or {}) do with_uptime[name] = value end
  return with_uptime
end

return register
