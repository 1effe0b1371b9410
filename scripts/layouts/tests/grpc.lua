local json, register, test = require "json", require "grpc", require "test"

test.case("a container is an endpoint below its service, and no slash is in front", function()
  local value = '{"Addr":"192.0.2.1:32768","Metadata":null,"Op":0}'
  local want = { { key = "backends/web/abcdef012345", value = value, ttl = 60 } }
  test.entries(register, { id = "abcdef0123456789" }, want)
end)

test.case("of several ports each is a service", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 9000, host_port = 8001 } }
  local entries = register.entries(test.container { id = "abcdef0123456789", ports = ports })
  test.equal(entries[2].key, "backends/web-9000/abcdef012345")
  test.equal(json.decode(entries[2].value).Addr, "192.0.2.1:8001")
end)

test.case("an unpublished port has no endpoint, nor has UDP", function()
  local ports = { { port = 80 }, { port = 443, protocol = "udp", host_port = 443 } }
  local entries, left_out = register.entries(test.container { ports = ports })
  test.equal(entries, {})
  test.equal(left_out, { "port 80/tcp: it is not published", "port 443/udp: gRPC is spoken over TCP" })
end)
