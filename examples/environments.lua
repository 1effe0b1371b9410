-- Puts the keys of each environment into a directory of its own, where one etcd serves several of them:
--
--   /backends/<environment>/<service>/<n>/<container>   1.2.3.4:32768
--   /backends/<environment>/<service>/<n>/port          8005
--
--   docker-register --script environments.lua --set environment=staging
--
-- A container's label com.example.environment names its environment. Setting: environment, that of containers without
-- the label; by default they fail. A host of staging runs `docker-register discover --prefix /backends/staging`.
local etcd, options, register = require "etcd", require "options", require "register"

function register.directory(container, port)
  local environment = container.labels["com.example.environment"] or options.environment
    or error("label it com.example.environment=NAME")
  environment = etcd.segment("the environment", environment, container)
  local service = etcd.segment("the service name", register.service(container, port), container)
  return register.prefix .. "/" .. etcd.key(environment, service, port.index)
end

return register
