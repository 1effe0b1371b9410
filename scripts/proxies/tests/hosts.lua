local discover, hosts, test = require "discover", require "hosts", require "test"

discover.bind = { "loopback" }
discover.targets = { require "haproxy", hosts }

local BEGINNING = "# docker-register discover replaces this file.\n"

test.case("each name has one loopback address, for all of its ports", function()
  local services = {
    test.service {},
    test.service { index = 2, port = 8006 },
    test.service { name = "dns", port = 53 },
  }
  test.equal(test.file(discover, services, "hosts"), BEGINNING .. "127.16.155.240 web\n127.219.174.27 dns\n")
end)

test.case("a loopback address is that of its name alone, and no one's", function()
  local one = discover.loopback(test.service { members = { "10.0.0.1:32768" } })
  test.equal(discover.loopback(test.service { port = 1, index = 3 }), one)
  for number = 1, 1000 do
    local address = discover.loopback(test.service { name = "service-" .. number })
    local second, last = address:match("^127%.(%d+)%.%d+%.(%d+)$")
    second, last = tonumber(second), tonumber(last)
    test.equal(second >= 1 and second <= 254 and last >= 1 and last <= 254, true)
  end
end)

test.case("a service has a line for each address that it listens on", function()
  discover.bind = { "127.0.0.1", "::1" }
  test.equal(test.file(discover, { test.service {} }, "hosts"), BEGINNING .. "127.0.0.1 web\n::1 web\n")
end)

test.case("names that hosts do not have are written otherwise", function()
  test.equal(hosts.name("a b\tlocalhost"), "a_x20b_x09localhost")
  test.equal(hosts.name("#"), "_x23")
end)

test.case("a name that is this host's, or too long, is left out", function()
  discover.targets = { hosts }
  local accepted, why = discover.accept(test.service { name = "localhost" })
  test.equal({ accepted, why }, { false, "localhost is this host" })
  accepted, why = discover.accept(test.service { name = ("x"):rep(254) })
  test.equal({ accepted, why }, { false, "its name is too long for a host" })
end)

test.case("beside a proxy it accepts nothing by itself", function()
  discover.targets = { require "haproxy", hosts }
  test.equal(discover.accept(test.service { protocol = "udp" }), false)
end)
