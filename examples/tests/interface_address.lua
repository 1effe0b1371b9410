local register, test = require "interface_address", require "test"

-- Where the first port of a container with these bindings is reached.
local function address(bindings)
  local container = test.container { ports = { { port = 80, bindings = bindings } } }
  return register.address(container, container.ports[1])
end

test.case("a port that is published everywhere is reached at the interface", function()
  test.equal(address { { ip = "::", port = 8000 }, { ip = "0.0.0.0", port = 8001 } }, "127.0.0.1:8001")
end)

test.case("one that is bound to an address of its own is reached there", function()
  test.equal(address { { ip = "203.0.113.7", port = 8000 } }, "203.0.113.7:8000")
end)
