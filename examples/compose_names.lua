-- Names a service as in its Compose file: `<project>-<service>`. A container that Compose did not start has the
-- default name. A one-off of `docker compose run` is left out, because it does not serve. Use it where several projects
-- have a `web`, or where images have meaningless names.
--
--   docker-register --script compose_names.lua
--
-- The labels are Compose's own; there are no settings.
local register = require "register"

local accept, service = register.accept, register.service

function register.accept(container)
  local one_off = container.labels["com.docker.compose.oneoff"] or ""
  if one_off:lower() == "true" then return false, "it is a one-off of `docker compose run`" end
  return accept(container)
end

function register.service(container, port)
  local project = container.labels["com.docker.compose.project"]
  local name = container.labels["com.docker.compose.service"]
  return project and name and project .. "-" .. name or service(container, port)
end

return register
