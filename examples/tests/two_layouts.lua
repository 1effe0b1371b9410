local register, test = require "two_layouts", require "test"

test.case("a container has the keys of both", function()
  test.entries(register, { id = "abcdef0123456789" }, {
    { key = "/backends/web/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60 },
    { key = "/backends/web/1/port", value = "80", ttl = 60, shared = true },
    {
      key = "/skydns/org/example/web/abcdef012345-80",
      value = '{"host":"192.0.2.1","port":32768,"ttl":30}',
      ttl = 60,
    },
  })
end)

test.case("what is left out is left out of both, and is said once", function()
  local entries, left_out = register.entries(test.container { ports = { { port = 80 } } })
  test.equal({ entries, left_out }, { {}, { "port 80/tcp: it is not published" } })
end)
