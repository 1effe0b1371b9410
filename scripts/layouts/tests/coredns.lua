local register, test = require "coredns", require "test"

-- The keys of a container whose id is abcdef012345.
local function keys(fields)
  local keys = {}
  fields.id = "abcdef0123456789"
  for _, entry in ipairs(register.entries(test.container(fields))) do keys[#keys + 1] = entry.key end
  return keys
end

test.case("a container is a record below its service", function()
  local value = '{"host":"192.0.2.1","port":32768,"ttl":30}'
  local want = { { key = "/skydns/org/example/web/abcdef012345-80", value = value, ttl = 60 } }
  test.entries(register, { id = "abcdef0123456789" }, want)
end)

test.case("of several ports each is a service", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 443, host_port = 8001 } }
  local want = { "/skydns/org/example/web-80/abcdef012345-80", "/skydns/org/example/web-443/abcdef012345-443" }
  test.equal(keys { ports = ports }, want)
end)

test.case("each protocol of a port has a label of its own", function()
  local ports = {}
  for number, protocol in ipairs { "sctp", "tcp", "udp" } do
    ports[number] = { port = 53, protocol = protocol, host_port = 5300 + number }
  end
  local accept_port = register.accept_port
  function register.accept_port() return true end
  local directory = "/skydns/org/example/web-53/abcdef012345"
  test.equal(keys { ports = ports }, { directory .. "-53-sctp", directory .. "-53", directory .. "-53-udp" })
  register.accept_port = accept_port
end)

test.case("a name becomes a DNS label", function()
  for name, label in pairs { User_RPC = "user-rpc", ["404"] = "404", a__b = "a--b", [("a"):rep(63)] = ("a"):rep(63) } do
    local want = { "/skydns/org/example/" .. label .. "/abcdef012345-80" }
    test.equal(keys { labels = { SERVICE_NAME = name } }, want)
  end
end)

test.case("a name that would lose more than its spelling is refused, because it could meet another", function()
  for _, name in ipairs { "東京-api", "大阪-api", "web.app", "_web", "web-", "a b", "...", ("a"):rep(64) } do
    local done, why = pcall(keys, { labels = { SERVICE_NAME = name } })
    local said = "the service name `" .. name .. "` makes no DNS label"
    test.equal({ done, tostring(why):find(said, 1, true) ~= nil }, { false, true })
  end
end)

test.case("a site may make labels of other names", function()
  local dns_label = register.dns_label
  function register.dns_label(name) return dns_label((name:gsub("%.", "-"))) end
  test.equal(keys { image = "acme/web.app" }, { "/skydns/org/example/web-app/abcdef012345-80" })
  register.dns_label = dns_label
end)

test.case("an IPv6 address has no brackets", function()
  local ports = { { port = 80, host_ip = "2001:db8::1", host_port = 8000 } }
  local entries = register.entries(test.container { ports = ports })
  test.equal(entries[1].value, '{"host":"2001:db8::1","port":8000,"ttl":30}')
end)
