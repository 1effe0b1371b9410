local register, test = require "site", require "test"

test.case("the label names the service, and the keys live for half a minute", function()
  local labels = { ["com.acme.service"] = "pay" }
  test.entries(register, { id = "abcdef0123456789", labels = labels }, {
    { key = "/backends/pay/1/abcdef012345", value = "192.0.2.1:32768", ttl = 30 },
    { key = "/backends/pay/1/port", value = "80", ttl = 30, shared = true },
  })
end)

test.case("without the label it is the image's name", function()
  test.equal(register.service(test.container { image = "acme/web:2" }, { port = 80 }), "web")
end)
