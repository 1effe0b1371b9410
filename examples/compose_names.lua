-- Names a service as in its Compose file: `<project>-<service>`. A container that Compose did not start has the
-- default name. Use it where several projects have a `web`, or where images have meaningless names.
--
--   docker-register --script compose_names.lua
--
-- The labels are Compose's own; there are no settings.
local register = require "register"

local default = register.service

function register.service(container, port)
  local project = container.labels["com.docker.compose.project"]
  local service = container.labels["com.docker.compose.service"]
  return project and service and project .. "-" .. service or default(container, port)
end

return register
