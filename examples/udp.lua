-- UDP as well as TCP, without --set protocols=tcp,udp on each host. The `port` key of a UDP port is `53/udp`.
--
--   docker-register --script udp.lua
--
-- There are no settings.
local register = require "register"

register.protocols = "tcp,udp"

return register
