-- Two layouts at once: the default's keys, and the same containers in DNS. etcd.sync takes all keys of a container at
-- once, so the two lists are joined in one function.
--
--   docker-register --script two_layouts.lua --set domain=example.org
--
-- Settings: those of the layout coredns.
local register = require "register"

local default, dns = register.entries, require("coredns").entries

function register.entries(container)
  local entries, left_out = default(container)
  for _, entry in ipairs(dns(container)) do entries[#entries + 1] = entry end
  return entries, left_out
end

return register
