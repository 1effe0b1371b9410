-- Prometheus's file_sd: the servers of each service, which Prometheus scrapes. Use it with `file_sd_configs`, whose
-- `files` names `targets.json` in the directory. The labels are `service`, `index` and `port`.
--
--   docker-register discover --proxy none --set target=file_sd --directory /etc/prometheus/services
--
-- There are no settings.
local json = require "json"

local file_sd = { lists = "servers" }

function file_sd.accept(service)
  if service.protocol ~= "tcp" then return false, "Prometheus asks over TCP, and not over " .. service.protocol end
  return true
end

function file_sd.identifier(text) return text end

-- A service without a server stays in the list. An empty file would leave the last targets in force, so there is `[]`.
function file_sd.files(services)
  local groups = json.array {}
  for i, service in ipairs(services) do
    local targets = json.array {}
    for place, server in ipairs(service.listener.servers) do targets[place] = server.address end
    local labels = { service = service.name, index = tostring(service.index), port = tostring(service.port) }
    groups[i] = { targets = targets, labels = labels }
  end
  return { { name = "targets.json", text = json.encode(groups) .. "\n" } }
end

return file_sd
