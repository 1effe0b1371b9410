local register, test = require "traefik", require "test"

-- What the entries of a container say, by key; the container's id in decimal is 16.
local function keys(fields)
  local keys = {}
  fields.id = "000000000010" .. ("0"):rep(52)
  for _, entry in ipairs(register.entries(test.container(fields))) do keys[entry.key] = entry.value end
  return keys
end

test.case("the hosts share the router, and each has its servers", function()
  test.entries(register, { id = "000000000010" }, {
    { key = "traefik/http/routers/web/rule", value = "Host(`web.example.org`)", ttl = 60, shared = true },
    { key = "traefik/http/routers/web/entrypoints/0", value = "web", ttl = 60, shared = true },
    { key = "traefik/http/routers/web/service", value = "web", ttl = 60, shared = true },
    {
      key = "traefik/http/services/web/loadbalancer/servers/16/url",
      value = "http://192.0.2.1:32768",
      ttl = 60,
      shared = false,
    },
  })
end)

test.case("labels say more, those of a port before the others", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 5432, host_port = 8001 } }
  local labels = {
    ["traefik.rule"] = "PathPrefix(`/`)", ["traefik.entrypoints"] = "web,websecure",
    ["traefik.5432.protocol"] = "tcp", ["traefik.5432.rule"] = "HostSNI(`*`)", ["traefik.5432.entrypoints"] = "db",
  }
  test.equal(keys { ports = ports, labels = labels }, {
    ["traefik/http/routers/web-80/rule"] = "PathPrefix(`/`)",
    ["traefik/http/routers/web-80/entrypoints/0"] = "web,websecure",
    ["traefik/http/routers/web-80/service"] = "web-80",
    ["traefik/http/services/web-80/loadbalancer/servers/16/url"] = "http://192.0.2.1:8000",
    ["traefik/tcp/routers/web-5432/rule"] = "HostSNI(`*`)",
    ["traefik/tcp/routers/web-5432/entrypoints/0"] = "db",
    ["traefik/tcp/routers/web-5432/service"] = "web-5432",
    ["traefik/tcp/services/web-5432/loadbalancer/servers/16/address"] = "192.0.2.1:8001",
  })
end)

test.case("a name is a DNS label", function()
  local keys = keys { labels = { SERVICE_NAME = "My_App" } }
  test.equal(keys["traefik/http/routers/my-app/rule"], "Host(`my-app.example.org`)")
  test.equal(keys["traefik/http/routers/my-app/service"], "my-app")
end)

test.case("a name that would meet another is refused, and so are an index and one of another provider", function()
  local label = "makes no DNS label"
  for name, why in pairs {
    ["東京-api"] = label, ["大阪-api"] = label, ["web.app"] = label, ["API@internal"] = label,
    ["404"] = "Traefik takes the name `404` for an index",
  } do
    local done, said = pcall(keys, { labels = { SERVICE_NAME = name } })
    test.equal({ done, tostring(said):find(why, 1, true) ~= nil }, { false, true })
    test.equal(tostring(said):find("`" .. name .. "`", 1, true) ~= nil, true)
    test.equal(tostring(said):find("SERVICE_NAME=NAME", 1, true) ~= nil, true)
  end
end)

test.case("Traefik's own label leaves out a container, or a port", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 9000, host_port = 8001 } }
  local entries, left_out = register.entries(test.container { ports = ports, labels = { ["traefik.enable"] = "False" } })
  local why = "its label traefik.enable is false"
  test.equal({ entries, left_out }, { {}, { "port 80/tcp: " .. why, "port 9000/tcp: " .. why } })
  local keys = keys { ports = ports, labels = { ["traefik.enable"] = "true", ["traefik.9000.enable"] = "false" } }
  test.equal({ keys["traefik/http/routers/web-80/service"], keys["traefik/http/routers/web-9000/service"] }, { "web-80" })
end)

test.case("TCP would take a whole entrypoint, so it has to name one", function()
  for protocol, why in pairs { tcp = "traefik.entrypoints=NAME", ftp = "Traefik speaks no ftp" } do
    local done, said = pcall(keys, { labels = { ["traefik.protocol"] = protocol } })
    test.equal({ done, tostring(said):find(why, 1, true) ~= nil }, { false, true })
  end
end)

test.case("what is no HTTP, TCP or UDP is left out", function()
  register.protocols = "tcp,udp,sctp"
  local ports = { { port = 38412, protocol = "sctp", host_port = 31003 } }
  local entries, left_out = register.entries(test.container { ports = ports })
  test.equal({ entries, left_out }, { {}, { "port 38412/sctp: Traefik forwards no SCTP" } })
end)

test.case("of one number, the protocol's label is for TCP", function()
  local ports = { { port = 53, host_port = 5300 }, { port = 53, protocol = "udp", host_port = 5301 } }
  local labels = { ["traefik.protocol"] = "tcp", ["traefik.entrypoints"] = "dns" }
  local server = "services/web-53/loadbalancer/servers/16/address"
  local both = keys { ports = ports, labels = labels }
  test.equal({ both["traefik/tcp/" .. server], both["traefik/udp/" .. server] }, { "192.0.2.1:5300", "192.0.2.1:5301" })
  labels["traefik.protocol"] = "udp"
  local _, left_out = register.entries(test.container { ports = ports, labels = labels })
  test.equal(left_out, { "port 53/tcp: its label traefik.protocol is udp" })
end)

test.case("a UDP router has no rule", function()
  local ports = { { port = 53, protocol = "udp", host_port = 5300 } }
  test.equal(keys { ports = ports, labels = { ["traefik.entrypoints"] = "dns" } }, {
    ["traefik/udp/routers/web/entrypoints/0"] = "dns",
    ["traefik/udp/routers/web/service"] = "web",
    ["traefik/udp/services/web/loadbalancer/servers/16/address"] = "192.0.2.1:5300",
  })
end)
