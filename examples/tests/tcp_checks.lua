local register, test = require "tcp_checks", require "test"

-- The check of a container with this port and these labels.
local function check(port, labels)
  local container = test.container { ports = { port }, labels = labels }
  return register.check(container, container.ports[1])
end

test.case("the keys of a Redis exist while it answers", function()
  local ports = { { port = 6379, host_port = 32768 } }
  local ping = { tcp = true, send = "PING\r\n", expect = "+PONG", address = "192.0.2.1:32768" }
  test.entries(register, { id = "abcdef0123456789", image = "redis", ports = ports }, {
    { key = "/backends/redis/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60, check = ping },
    { key = "/backends/redis/1/port", value = "6379", ttl = 60, shared = true, check = ping },
  })
end)

test.case("a mail server must greet", function()
  test.equal(check { port = 25, host_port = 25 }, { tcp = true, expect = "220" })
end)

test.case("a label comes first", function()
  test.equal(check({ port = 25, host_port = 25 }, { SERVICE_CHECK_TCP = "true" }), { tcp = true })
end)

test.case("other ports have no check", function()
  test.equal(check { port = 80, host_port = 80 }, nil)
  test.equal(check { port = 25, protocol = "udp", host_port = 25 }, nil)
end)
