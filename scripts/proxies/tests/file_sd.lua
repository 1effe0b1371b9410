local discover, file_sd, test = require "discover", require "file_sd", require "test"

discover.targets = { file_sd }

test.case("each service is a group of its members", function()
  local services = {
    test.service { members = { "10.0.0.1:32768", "[fd00::1]:32769" } },
    test.service { name = 'a"b', index = 2, port = 80 },
  }
  test.equal(test.file(discover, services, "targets.json"),
    '[{"labels":{"index":"1","port":"8005","service":"web"},"targets":["10.0.0.1:32768","[fd00::1]:32769"]},'
    .. '{"labels":{"index":"2","port":"80","service":"a\\"b"},"targets":[]}]\n')
end)

test.case("without services there is an empty list", function()
  test.equal(test.file(discover, {}, "targets.json"), "[]\n")
end)

test.case("no service needs an address", function()
  local listener = discover.listener(test.service { attributes = { http = "a.example.com" } })
  test.equal({ listener.listen, listener.shared }, {})
end)

test.case("beside a proxy it lists what the proxy routes to", function()
  discover.targets = { file_sd, require "haproxy" }
  test.equal(discover.accept(test.service { protocol = "udp" }), false)
  test.equal(#discover.listener(test.service()).listen > 0, true)
end)

test.case("what Prometheus cannot ask is left out", function()
  discover.targets = { file_sd }
  local accepted, why = discover.accept(test.service { protocol = "udp" })
  test.equal({ accepted, why }, { false, "Prometheus asks over TCP, and not over udp" })
end)
