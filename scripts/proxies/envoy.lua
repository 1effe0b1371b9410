-- Envoy, 1.30 and newer: TCP, UDP, and HTTP by host names. Use it where Envoy runs already, or for UDP without reloads:
-- it reads each change by itself, and a service that it refuses costs no other.
--
--   docker-register discover --proxy envoy
--
-- There are no health checks: a server that cannot be reached is left alone for five seconds. A UDP session ends after
-- a minute of silence. There are no settings.
local json, proxy, resources = require "json", require "proxy", require "envoy.resources"

local envoy = {}

function envoy.accept(service)
  if service.protocol == "sctp" then return false, "Envoy has no sctp" end
  return true
end

-- Servers have no names in Envoy, and names of clusters have all characters.
function envoy.identifier(text) return text end

local function file(name, content)
  return { name = "envoy/" .. name .. ".json", text = json.encode(content) .. "\n" }
end

local function source(name)
  return {
    resource_api_version = "V3",
    path_config_source = { path = proxy.directory .. "/envoy/" .. name .. ".json" },
  }
end

-- The file that Envoy reads when it starts.
function envoy.bootstrap()
  return {
    node = { id = "docker-register", cluster = "docker-register" },
    admin = { address = { pipe = { path = proxy.socket, mode = 384 } } }, -- 0600
    dynamic_resources = { cds_config = source "cds", lds_config = source "lds" },
  }
end

-- The clusters come before the listeners that need them.
function envoy.files(services, discover)
  local clusters, listeners = {}, {}
  for i, service in ipairs(services) do
    local name, mode = service.name .. "." .. service.index, discover.mode(service)
    clusters[i] = resources.cluster(name, service.listener.servers)
    for _, address in ipairs(service.listener.listen) do
      if mode == "http" then
        listeners[#listeners + 1] = resources.http(name, address, { resources.virtual_host(name, { "*" }, name) })
      else
        listeners[#listeners + 1] = resources[mode](name, address)
      end
    end
  end
  local shared, names, owners = discover.virtual_hosts(services)
  local hosts = {}
  for i, host in ipairs(names) do
    hosts[i] = resources.virtual_host(host, { host }, owners[host].name .. "." .. owners[host].index)
  end
  for _, address in ipairs(shared) do listeners[#listeners + 1] = resources.http("http", address, hosts) end
  return {
    file("bootstrap", envoy.bootstrap()),
    file("cds", { resources = json.array(clusters) }),
    file("lds", { resources = json.array(listeners) }),
  }
end

return envoy
