-- Registers UDP ports as well as TCP, without --set protocols=tcp,udp on each host. The `port` key of UDP is `53/udp`.
--
--   docker-register --script udp.lua
--
-- There are no settings.
local register = require "register"

register.protocols = "tcp,udp"

return register
