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

test.case("both protocols of a port have labels of their own", function()
  local ports = { { port = 53, host_port = 5300 }, { port = 53, protocol = "udp", host_port = 5301 } }
  local directory = "/skydns/org/example/web-53/abcdef012345"
  test.equal(keys { ports = ports }, { directory .. "-53", directory .. "-53-udp" })
end)

test.case("a name becomes a DNS label", function()
  local want = { "/skydns/org/example/user-rpc/abcdef012345-80" }
  test.equal(keys { labels = { SERVICE_NAME = "_User.RPC_" } }, want)
end)

test.case("a name that makes none is refused", function()
  for _, name in ipairs { "...", ("a"):rep(64) } do
    local done, why = pcall(keys, { labels = { SERVICE_NAME = name } })
    test.equal({ done, tostring(why):find("makes no DNS label", 1, true) ~= nil }, { false, true })
  end
end)

test.case("an IPv6 address has no brackets", function()
  local ports = { { port = 80, host_ip = "2001:db8::1", host_port = 8000 } }
  local entries = register.entries(test.container { ports = ports })
  test.equal(entries[1].value, '{"host":"2001:db8::1","port":8000,"ttl":30}')
end)
