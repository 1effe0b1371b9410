local register, test = require "go_zero", require "test"

test.case("a server is a number below its key", function()
  local labels = { SERVICE_NAME = "user.rpc" }
  local want = { { key = "user.rpc/16", value = "192.0.2.1:32768", ttl = 60 } }
  test.entries(register, { id = "000000000010", labels = labels }, want)
end)

test.case("every container has its own number", function()
  local numbers = {}
  for _, container in ipairs(test.containers "../../../examples/fleet.json") do
    for _, entry in ipairs(register.entries(container)) do
      local number = entry.key:match("^[^/]+/(%d+)$")
      test.equal(numbers[number] or container.id, container.id)
      numbers[number] = container.id
    end
  end
end)

test.case("of several ports each is a service", function()
  local ports = { { port = 80, host_port = 8000 }, { port = 9000, host_port = 8001 } }
  local entries = register.entries(test.container { id = "000000000010", ports = ports })
  test.equal({ entries[1].key, entries[2].key }, { "web-80/16", "web-9000/16" })
end)

test.case("UDP is left out", function()
  local ports = { { port = 53, protocol = "udp", host_port = 53 } }
  local entries, left_out = register.entries(test.container { ports = ports })
  test.equal({ entries, left_out }, { {}, { "port 53/udp: go-zero speaks TCP" } })
end)
