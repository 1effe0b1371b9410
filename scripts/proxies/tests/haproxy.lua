local discover, haproxy, test = require "discover", require "haproxy", require "test"

discover.bind = { "127.0.0.1", "172.17.0.1" }
discover.head = function() return "" end

-- The configuration of these services.
local function configuration(...)
  local services = {}
  for _, fields in ipairs { ... } do services[#services + 1] = test.service(fields) end
  return test.file(discover, services, "haproxy.cfg")
end

test.case("a service listens on its port, and each member is a server", function()
  discover.server_options = "check"
  local want = "listen web.1\n  bind 127.0.0.1:8005\n  bind 172.17.0.1:8005\n"
    .. "  server c1_10.0.0.1:32768 10.0.0.1:32768 check\n  server c2_10.0.0.2:32769 10.0.0.2:32769 check\n\n"
  test.equal(configuration { members = { "10.0.0.1:32768", "10.0.0.2:32769" } }, want)
end)

test.case("a service with host names speaks HTTP, and shares an address with others", function()
  local text = configuration(
    { name = "a", attributes = { http = "a.example.com, A.example.org" } },
    { name = "b", port = 80, attributes = { http = "b.example.com" } })
  for _, part in ipairs {
    "listen a.1\n", "listen b.1\n", "  mode http\n", "frontend http\n  bind 127.0.0.1:80\n",
    "  use_backend a.1 if { req.hdr(host),field(1,:),lower -m str a.example.com }\n",
    "  use_backend a.1 if { req.hdr(host),field(1,:),lower -m str a.example.org }\n",
    "  use_backend b.1 if { req.hdr(host),field(1,:),lower -m str b.example.com }\n",
  } do
    test.equal(text:find(part, 1, true) ~= nil, true)
  end
end)

test.case("of two services with one host name the older has it", function()
  local text = configuration(
    { name = "a", created = 2, attributes = { http = "example.com" } },
    { name = "b", created = 1, attributes = { http = "example.com" } })
  test.equal(text:find("use_backend b.1", 1, true) ~= nil, true)
  test.equal(text:find("use_backend a.1", 1, true), nil)
end)

test.case("names that HAProxy does not have are written otherwise, each in its own way", function()
  test.equal(haproxy.identifier("a b"), "a:x20b")
  test.equal(haproxy.identifier("größe/1"), "gr:xc3:xb6:xc3:x9fe:x2f1")
  test.equal(haproxy.identifier("a.b_c-d"), "a.b_c-d")
end)

test.case("what HAProxy cannot serve is left out", function()
  local accepted, why = discover.accept(test.service { protocol = "udp" })
  test.equal({ accepted, why }, { false, "HAProxy has no udp" })
  accepted, why = discover.accept(test.service { name = ("x"):rep(201) })
  test.equal({ accepted, why }, { false, "its name is too long for HAProxy" })
end)

test.case("a host name that no request can have is an error of its service", function()
  local good, failure = pcall(discover.listener, test.service { attributes = { http = "a b*c" } })
  test.equal(good, false)
end)

test.case("a key has its place", function()
  local prefix = discover.prefix
  test.equal(discover.service(prefix .. "/web/1/port", "8005"), { service = "web", index = "1", port = "8005" })
  test.equal(discover.service(prefix .. "/web/1/http", "a"), { service = "web", index = "1", attribute = "http", value = "a" })
  test.equal(discover.service(prefix .. "/web/2/c1", "1.2.3.4:5"),
    { service = "web", index = "2", member = "c1", address = "1.2.3.4:5" })
  test.equal(discover.service(prefix .. "/web", "x"), nil)
end)

test.case("a key has its place in the layouts of others", function()
  local prefix = discover.prefix
  discover.layout = "docker_discover"
  test.equal(discover.service(prefix .. "/web/port", "8005"), { service = "web", index = 1, port = "8005" })
  test.equal(discover.service(prefix .. "/web/c1", "1.2.3.4:5"),
    { service = "web", index = 1, member = "c1", address = "1.2.3.4:5" })
  test.equal({ discover.service(prefix .. "/web/1/c1", "x") }, { nil, "it is not " .. prefix .. "/<service>/<container>" })
  discover.layout = "registrator"
  local function member(name, port)
    return { service = "web", index = 1, member = name, address = "1.2.3.4:5", port = port }
  end
  for name, port in pairs {
    ["alpha:web-1:80"] = "80", ["alpha:dns:53:udp"] = "53/udp", ["fd00::1:80:8080"] = "8080",
  } do
    test.equal(discover.service(prefix .. "/web/" .. name, "1.2.3.4:5"), member(name, port))
  end
  for _, key in ipairs { "/web/alpha", "/web/1/alpha:web-1:80", "/web" } do
    test.equal({ discover.service(prefix .. key, "1.2.3.4:5") },
      { nil, "it is not " .. prefix .. "/<service>/<host>:<container>:<port>" })
  end
  discover.layout = ""
end)

test.case("a host name with an empty part is none", function()
  for _, host in ipairs { ".a", "a..b", ("x"):rep(254) } do
    test.equal(select(2, discover.hosts(test.service { attributes = { http = host } })), host)
  end
end)

test.case("an override that does not exist fails when it is assigned", function()
  test.equal(pcall(function() discover.listn = 1 end), false)
  test.equal(pcall(function() discover.accept = true end), false)
end)

test.case("a decision that returns a wrong type is named", function()
  local accept = discover.accept
  function discover.accept(service) if service.name == "internal" then return false end end
  local went_well, why = pcall(discover.listener, test.service { name = "web" })
  discover.accept = accept
  test.equal(went_well, false)
  test.equal(why:match("haproxy.lua:%d+: (.*)"), "`discover.accept` returned nothing and not true or false")
end)

test.case("a misspelt decision is told with the nearest name", function()
  for _, use in ipairs { function() return discover.acept end, function() discover.acept = print end } do
    local went_well, why = pcall(use)
    test.equal(went_well, false)
    test.equal(why:match("haproxy.lua:%d+: (.*)"), "discover has no decision `acept`; did you mean `accept`?")
  end
end)
