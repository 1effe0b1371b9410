-- Registers only containers with the label com.example.discover=true. Use it on a host where other people run
-- containers too. Any value counts except an empty one, `0` and `false`.
--
--   docker-register --script opt_in.lua
--
-- Setting: label, its name.
local options, register = require "options", require "register"

local label = options.label or "com.example.discover"
local off = { [""] = true, ["0"] = true, ["false"] = true }
local default = register.accept

function register.accept(container)
  if off[(container.labels[label] or ""):lower()] then return false, "it has no label " .. label .. "=true" end
  return default(container)
end

return register
