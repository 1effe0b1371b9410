local register, test = require "network_address", require "test"

test.case("a port is reached at the container, published or not", function()
  local ports = { { port = 80, host_port = 32768 }, { port = 9000 } }
  test.entries(register, { id = "abcdef0123456789", ports = ports }, {
    { key = "/backends/web/1/abcdef012345", value = "172.17.0.2:80", ttl = 60 },
    { key = "/backends/web/1/port", value = "80", ttl = 60, shared = true },
    { key = "/backends/web/2/abcdef012345", value = "172.17.0.2:9000", ttl = 60 },
    { key = "/backends/web/2/port", value = "9000", ttl = 60, shared = true },
  })
end)

test.case("an IPv6 address is in brackets", function()
  local container = test.container { networks = { bridge = { ip6 = "2001:db8::2" } } }
  test.equal(register.address(container, container.ports[1]), "[2001:db8::2]:80")
end)

test.case("of both families, the host's is registered", function()
  local container = test.container { networks = { bridge = { ip = "172.17.0.2", ip6 = "2001:db8::2" } } }
  test.equal(register.address(container, container.ports[1]), "172.17.0.2:80")
  local host_ip = register.host_ip
  register.host_ip = "2001:db8::1"
  test.equal(register.address(container, container.ports[1]), "[2001:db8::2]:80")
  local only4 = test.container { networks = { bridge = { ip = "172.17.0.2" } } }
  test.equal(register.address(only4, only4.ports[1]), "172.17.0.2:80")
  register.host_ip = host_ip
end)

test.case("a one-off of Compose is left out", function()
  local labels = { ["com.docker.compose.oneoff"] = "False" }
  test.equal(#register.entries(test.container { labels = labels }), 2)
  labels["com.docker.compose.oneoff"] = "True"
  local entries, why = register.entries(test.container { labels = labels })
  test.equal({ entries, why }, { {}, { "it is a one-off of `docker compose run`" } })
end)

test.case("a container that is not in the network is left out", function()
  local entries, why = register.entries(test.container { networks = { other = { ip = "172.18.0.2" } } })
  test.equal({ entries, why }, { {}, { "it has no address in the network bridge" } })
end)

test.case("a container still says what it leaves out", function()
  local entries, left_out = register.entries(test.container { labels = { SERVICE_80_IGNORE = "1" } })
  test.equal({ entries, left_out }, { {}, { "port 80/tcp: SERVICE_80_IGNORE is set" } })
end)
