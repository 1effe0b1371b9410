-- Containers are reached at the address of one interface of the host, whatever --host-ip is. Use it where the same
-- script runs on hosts with several networks, of which one is for this. A port that is bound to an address of its own
-- keeps that.
--
--   docker-register --script interface_address.lua --set interface=eth1
--
-- Setting: interface, its name; there is no default. Its address is read when the script is loaded, and again by
-- SIGHUP. IPv4 comes first.
local options, register = require "options", require "register"

local name = options.interface or error("which interface: --set interface=NAME")
local addresses = options.interfaces[name] or error("this host has no interface " .. name .. ", or one without address")

register.host_ip = addresses[1]

return register
