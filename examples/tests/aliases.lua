local register, test = require "aliases", require "test"

test.case("a container has the keys of its service and of each alias", function()
  local labels = { SERVICE_NAME = "payments", SERVICE_ALIASES = "pay, billing" }
  test.entries(register, { id = "abcdef0123456789", labels = labels }, {
    { key = "/backends/payments/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60 },
    { key = "/backends/payments/1/port", value = "80", ttl = 60, shared = true },
    { key = "/backends/pay/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60 },
    { key = "/backends/pay/1/port", value = "80", ttl = 60, shared = true },
    { key = "/backends/billing/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60 },
    { key = "/backends/billing/1/port", value = "80", ttl = 60, shared = true },
  })
end)

test.case("without aliases the keys are the default ones", function()
  test.equal(#register.entries(test.container()), 2)
end)

test.case("a port that is left out has no alias", function()
  local labels = { SERVICE_ALIASES = "pay" }
  local entries, left_out = register.entries(test.container { labels = labels, ports = { { port = 80 } } })
  test.equal({ entries, left_out }, { {}, { "port 80/tcp: it is not published" } })
end)
