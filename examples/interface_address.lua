-- Registers containers at the address of one interface of the host, and ignores --host-ip. Use it where one script
-- runs on hosts with several networks, and only one is for services. A port that is bound to another address keeps
-- that address.
--
--   docker-register --script interface_address.lua --set interface=eth1
--
-- Setting: interface, its name; there is no default. Its address is read when the script is loaded, and again at
-- SIGHUP. IPv4 is preferred.
local options, register = require "options", require "register"

local name = options.interface or error("which interface: --set interface=NAME")
local addresses = options.interfaces[name] or error("this host has no interface " .. name .. ", or one without address")

register.host_ip = addresses[1]

return register
