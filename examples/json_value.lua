-- The value of a container's key is JSON, for readers that balance by weight and choose by tags:
--
--   /backends/<service>/<n>/<container>   {"address":"1.2.3.4:32768","tags":["blue","canary"],"weight":10}
--
--   docker-register --script json_value.lua
--
-- A container's label SERVICE_WEIGHT is its weight (1 if there is none), and SERVICE_TAGS has its tags, with commas
-- between them. There are no settings. `docker-register discover` reads plain addresses and no such values.
local json, register = require "json", require "register"

function register.value(container, port)
  local text = container.labels.SERVICE_WEIGHT or "1"
  local weight = math.tointeger(text)
  if not weight or weight < 0 then
    error("its label SERVICE_WEIGHT, `" .. text .. "`, is no weight: weights are whole numbers from 0")
  end
  -- Without `json.array`, a container without tags would have `{}`.
  local tags = json.array {}
  for tag in (container.labels.SERVICE_TAGS or ""):gmatch("[^,%s]+") do tags[#tags + 1] = tag end
  return json.encode { address = register.address(container, port), tags = tags, weight = weight }
end

return register
