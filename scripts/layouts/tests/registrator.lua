local register, test = require "registrator", require "test"

-- The keys of a container that publishes these ports.
local function keys(fields)
  local keys = {}
  for _, entry in ipairs(register.entries(test.container(fields))) do keys[#keys + 1] = entry.key end
  return keys
end

test.case("the key has host, container and port", function()
  local want = { { key = "/services/web/alpha:web-1:80", value = "192.0.2.1:32768", ttl = 60 } }
  test.entries(register, {}, want)
end)

test.case("of several published ports each is a service, but for one that has a name", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 443, host_port = 8001 }, { port = 9000 } }
  local want = { "/services/web-80/alpha:web-1:80", "/services/tls/alpha:web-1:443" }
  test.equal(keys { ports = ports, env = { SERVICE_443_NAME = "tls" } }, want)
end)

test.case("a port counts as published although it is ignored", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 443, host_port = 8001 } }
  test.equal(keys { ports = ports, env = { SERVICE_443_IGNORE = "1" } }, { "/services/web-80/alpha:web-1:80" })
end)

test.case("UDP and SCTP say so", function()
  local ports = { { port = 53, protocol = "udp", host_port = 53 } }
  test.equal(keys { name = "dns-1", image = "dns", ports = ports }, { "/services/dns/alpha:dns-1:53:udp" })
  register.protocols = "tcp,udp,sctp"
  for number, protocol in ipairs { "sctp", "tcp", "udp" } do
    ports[number] = { port = 38412, protocol = protocol, host_port = 31000 + number }
  end
  local key = "/services/amf-38412/alpha:amf-1:38412"
  test.equal(keys { name = "amf-1", image = "amf", ports = ports }, { key .. ":sctp", key, key .. ":udp" })
end)
