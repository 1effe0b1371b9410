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

test.case("a name is never digits alone, nor one of another provider", function()
  for name, want in pairs { ["404"] = "service-404", ["API@internal"] = "api-internal" } do
    local keys = keys { labels = { SERVICE_NAME = name } }
    test.equal(keys["traefik/http/routers/" .. want .. "/service"], want)
  end
end)

test.case("TCP would take a whole entrypoint, so it has to name one", function()
  for protocol, why in pairs { tcp = "traefik.entrypoints=NAME", ftp = "Traefik speaks no ftp" } do
    local done, said = pcall(keys, { labels = { ["traefik.protocol"] = protocol } })
    test.equal({ done, tostring(said):find(why, 1, true) ~= nil }, { false, true })
  end
end)

test.case("a UDP router has no rule", function()
  function register.accept_port() return true end
  local ports = { { port = 53, protocol = "udp", host_port = 5300 } }
  test.equal(keys { ports = ports, labels = { ["traefik.entrypoints"] = "dns" } }, {
    ["traefik/udp/routers/web/entrypoints/0"] = "dns",
    ["traefik/udp/routers/web/service"] = "web",
    ["traefik/udp/services/web/loadbalancer/servers/16/address"] = "192.0.2.1:5300",
  })
end)
