local register, test = require "uptime", require "test"

-- The check of a container with these labels.
local function check(labels)
  local container = test.container { labels = labels }
  return register.check(container, container.ports[1])
end

test.case("every container must have run for five seconds", function()
  test.entries(register, { id = "abcdef0123456789" }, {
    { key = "/backends/web/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60, check = { uptime = 5 } },
    { key = "/backends/web/1/port", value = "80", ttl = 60, shared = true, check = { uptime = 5 } },
  })
end)

test.case("its other checks are made too", function()
  test.equal(check { SERVICE_CHECK_HTTP = "/health" }, { http = "/health", uptime = 5 })
end)

test.case("a label sets another time", function()
  test.equal(check { SERVICE_CHECK_UPTIME = "1m" }, { uptime = 60 })
end)
