-- Checks mail servers and Redis by the text that they send, because a connection alone proves little: a mail server
-- must greet, and Redis must answer a PING. Their keys exist only while they do. Labels of the container, such as
-- SERVICE_CHECK_TCP, come first.
--
--   docker-register --script tcp_checks.lua
--
-- There are no settings.
local register = require "register"

-- By the port in the container. A Redis with a password answers "-NOAUTH" instead.
local checks = {
  [25] = { tcp = true, expect = "220" },
  [6379] = { tcp = true, send = "PING\r\n", expect = "+PONG" },
}

local check = register.check

function register.check(container, port)
  local default = port.protocol == "tcp" and checks[port.port] or nil
  return check(container, port) or default
end

return register
