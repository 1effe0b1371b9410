local register, test = require "swarm_tasks", require "test"

-- A task of the service shop_web with these networks.
local function task(networks, fields)
  fields = fields or {}
  fields.id, fields.networks = "abcdef0123456789", networks
  fields.name = "shop_web.1.x1y2z3a4b5c6d7e8f9g0h1i2j"
  fields.labels = {
    ["com.docker.swarm.service.name"] = "shop_web", ["com.docker.swarm.task.name"] = fields.name,
    ["com.docker.stack.namespace"] = "shop",
  }
  return test.container(fields)
end

local networks = { ingress = { ip = "10.255.0.9" }, media_default = { ip = "10.0.1.4" }, other = { ip = "10.0.2.4" } }

test.case("a task is reached in the overlay, published or not", function()
  local ports = { { port = 80 }, { port = 443, host_port = 8443 } }
  test.entries(register, task(networks, { ports = ports }), {
    { key = "/backends/shop_web/1/abcdef012345", value = "10.0.1.4:80", ttl = 60 },
    { key = "/backends/shop_web/1/port", value = "80", ttl = 60, shared = true },
    { key = "/backends/shop_web/2/abcdef012345", value = "10.0.1.4:443", ttl = 60 },
    { key = "/backends/shop_web/2/port", value = "443", ttl = 60, shared = true },
  })
end)

test.case("a task that is not in it is left out, and so is one without an address", function()
  local why = { "it is a Swarm task without an address in the network media_default" }
  for _, networks in ipairs { { ingress = { ip = "10.255.0.9" } }, { media_default = {} } } do
    local entries, said = register.entries(task(networks))
    test.equal({ entries, said }, { {}, why })
  end
end)

test.case("a task that is unhealthy is left out", function()
  local entries, why = register.entries(task(networks, { health = "unhealthy" }))
  test.equal({ entries, why }, { {}, { "its health is unhealthy" } })
end)

test.case("any other container is registered as by default", function()
  test.entries(register, { id = "abcdef0123456789" }, {
    { key = "/backends/web/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60 },
    { key = "/backends/web/1/port", value = "80", ttl = 60, shared = true },
  })
end)
