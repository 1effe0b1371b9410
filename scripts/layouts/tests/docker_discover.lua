local register, test = require "docker_discover", require "test"

test.case("a service has its containers and its port", function()
  test.entries(register, { id = "abcdef0123456789" }, {
    { key = "/backends/web/abcdef012345", value = "192.0.2.1:32768", ttl = 60 },
    { key = "/backends/web/port", value = 80, ttl = 60, shared = true },
  })
end)

test.case("of several ports each is a service", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 443, host_port = 8001 }, { port = 9000 } }
  local entries, left_out = register.entries(test.container { id = "abcdef0123456789", ports = ports })
  test.equal(entries, {
    { key = "/backends/web-80/abcdef012345", value = "192.0.2.1:8000", ttl = 60 },
    { key = "/backends/web-80/port", value = 80, ttl = 60, shared = true },
    { key = "/backends/web-443/abcdef012345", value = "192.0.2.1:8001", ttl = 60 },
    { key = "/backends/web-443/port", value = 443, ttl = 60, shared = true },
  })
  test.equal(left_out, { "port 9000/tcp: it is not published" })
end)

test.case("a port that has a name keeps it, and UDP is left out", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 53, protocol = "udp", host_port = 53 } }
  local fields = { id = "abcdef0123456789", ports = ports, labels = { SERVICE_80_NAME = "front" } }
  local entries, left_out = register.entries(test.container(fields))
  test.equal({ #entries, entries[1].key }, { 2, "/backends/front/abcdef012345" })
  test.equal(left_out, { "port 53/udp: HAProxy forwards TCP alone" })
end)

test.case("what is not accepted has no keys", function()
  local entries, why = register.entries(test.container { status = "paused" })
  test.equal({ entries, why }, { {}, { "it is paused" } })
end)

test.case("a name cannot reach outside its segment", function()
  test.equal(pcall(register.entries, test.container { labels = { SERVICE_NAME = "../other" } }), false)
end)
