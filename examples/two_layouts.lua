-- Two layouts at once: the default keys, and the same containers in DNS. One call of etcd.sync needs all keys of a
-- container, so one function joins the two lists.
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
