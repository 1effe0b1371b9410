local discover, envoy, json, test = require "discover", require "envoy", require "json", require "test"

discover.bind = { "127.0.0.1" }
discover.targets = { envoy }

-- The resources of a file that is made of these services.
local function resources(file, ...)
  local services = {}
  for _, fields in ipairs { ... } do services[#services + 1] = test.service(fields) end
  return json.decode(test.file(discover, services, "envoy/" .. file .. ".json")).resources
end

test.case("the bootstrap names the admin socket and both files", function()
  local bootstrap = json.decode(test.file(discover, {}, "envoy/bootstrap.json"))
  test.equal(bootstrap.admin.address.pipe.path, "/run/haproxy.sock")
  test.equal(bootstrap.dynamic_resources.cds_config.path_config_source.path, "/run/envoy/cds.json")
  test.equal(bootstrap.dynamic_resources.lds_config.path_config_source.path, "/run/envoy/lds.json")
end)

test.case("the files come in the order in which Envoy needs them", function()
  local names = {}
  for i, file in ipairs(discover.files {}) do names[i] = file.name end
  test.equal(names, { "envoy/bootstrap.json", "envoy/cds.json", "envoy/lds.json" })
end)

test.case("without services both lists are empty", function()
  test.equal(test.file(discover, {}, "envoy/cds.json"), '{"resources":[]}\n')
  test.equal(test.file(discover, {}, "envoy/lds.json"), '{"resources":[]}\n')
end)

test.case("each member is an endpoint, and a service may have none", function()
  local clusters = resources("cds", { members = { "10.0.0.1:32768", "[fd00::1]:32769" } }, { name = "empty" })
  local endpoints = clusters[1].load_assignment.endpoints[1].lb_endpoints
  test.equal(clusters[1].name, "web.1")
  test.equal(endpoints[1].endpoint.address.socket_address, { address = "10.0.0.1", port_value = 32768 })
  test.equal(endpoints[2].endpoint.address.socket_address, { address = "fd00::1", port_value = 32769 })
  test.equal(json.encode(clusters[2].load_assignment),
    '{"cluster_name":"empty.1","endpoints":[{"lb_endpoints":[]}]}')
end)

test.case("a service listens on its port by its protocol", function()
  local listeners = resources("lds", {}, { name = "dns", port = 53, protocol = "udp" })
  local tcp, udp = listeners[1], listeners[2]
  test.equal(tcp.name, "web.1 127.0.0.1:8005")
  test.equal(tcp.address.socket_address, { address = "127.0.0.1", port_value = 8005, protocol = "TCP" })
  test.equal(tcp.filter_chains[1].filters[1].typed_config.cluster, "web.1")
  test.equal(udp.address.socket_address, { address = "127.0.0.1", port_value = 53, protocol = "UDP" })
  local matcher = udp.listener_filters[1].typed_config.matcher
  test.equal(matcher.on_no_match.action.typed_config.cluster, "dns.1")
end)

test.case("services with host names share an address, and the older has a name", function()
  local listeners = resources("lds",
    { name = "a", attributes = { http = "b.example.com, A.example.org" } },
    { name = "b", port = 80, attributes = { http = "b.example.com" }, created = 2 })
  local own, shared = listeners[1], listeners[#listeners]
  local hosts = own.filter_chains[1].filters[1].typed_config.route_config.virtual_hosts
  test.equal(hosts[1].domains, { "*" })
  test.equal(shared.name, "http 127.0.0.1:80")
  hosts = shared.filter_chains[1].filters[1].typed_config.route_config.virtual_hosts
  test.equal({ #hosts, hosts[1].name, hosts[2].name }, { 2, "a.example.org", "b.example.com" })
  test.equal(hosts[2].routes[1].route.cluster, "a.1")
end)

test.case("a name has any characters", function()
  local name = 'a"b\\;{$host} größe'
  test.equal(resources("cds", { name = name })[1].name, name .. ".1")
end)

test.case("what Envoy cannot serve is left out", function()
  local accepted, why = discover.accept(test.service { protocol = "sctp" })
  test.equal({ accepted, why }, { false, "Envoy has no sctp" })
end)
