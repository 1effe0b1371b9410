local register, test = require "udp", require "test"

test.case("both protocols of a port are registered", function()
  local ports = { { port = 53, host_port = 5300 }, { port = 53, protocol = "udp", host_port = 5301 } }
  test.entries(register, { id = "abcdef0123456789", image = "dns", ports = ports }, {
    { key = "/backends/dns/1/abcdef012345", value = "192.0.2.1:5300", ttl = 60 },
    { key = "/backends/dns/1/port", value = "53", ttl = 60, shared = true },
    { key = "/backends/dns/2/abcdef012345", value = "192.0.2.1:5301", ttl = 60 },
    { key = "/backends/dns/2/port", value = "53/udp", ttl = 60, shared = true },
  })
end)

test.case("the number of answers is registered beside the port of UDP", function()
  local ports = { { port = 53, host_port = 5300 }, { port = 53, protocol = "udp", host_port = 5301 } }
  test.entries(register, { id = "abcdef0123456789", image = "dns", env = { SERVICE_RESPONSES = "1" }, ports = ports }, {
    { key = "/backends/dns/1/abcdef012345", value = "192.0.2.1:5300", ttl = 60 },
    { key = "/backends/dns/1/port", value = "53", ttl = 60, shared = true },
    { key = "/backends/dns/2/abcdef012345", value = "192.0.2.1:5301", ttl = 60 },
    { key = "/backends/dns/2/port", value = "53/udp", ttl = 60, shared = true },
    { key = "/backends/dns/2/responses", value = "1", ttl = 60, shared = true },
  })
end)

test.case("what is asked of TCP is asked of UDP", function()
  local unpublished = { port = 53, protocol = "udp" }
  local loopback = { port = 123, protocol = "udp", host_ip = "127.0.0.1", host_port = 123 }
  local entries, left_out = register.entries(test.container { ports = { unpublished, loopback } })
  test.equal(entries, {})
  test.equal(left_out, { "port 53/udp: it is not published", "port 123/udp: it is published on 127.0.0.1 alone" })
end)

test.case("no other protocol is", function()
  local container = test.container { ports = { { port = 9, protocol = "sctp", host_port = 9 } } }
  local why = "sctp is not asked for (--set protocols=tcp,udp,sctp)"
  test.equal({ register.accept_port(container, container.ports[1]) }, { false, why })
end)
