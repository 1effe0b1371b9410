local json, register, test = require "json", require "json_value", require "test"

test.case("the value has the weight and the tags of the labels", function()
  local labels = { SERVICE_WEIGHT = "10", SERVICE_TAGS = "blue, canary" }
  test.entries(register, { id = "abcdef0123456789", labels = labels }, {
    {
      key = "/backends/web/1/abcdef012345",
      value = '{"address":"192.0.2.1:32768","tags":["blue","canary"],"weight":10}',
      ttl = 60,
    },
    { key = "/backends/web/1/port", value = "80", ttl = 60, shared = true },
  })
end)

test.case("without labels the weight is 1, and the tags are an empty list", function()
  local entries = register.entries(test.container())
  test.equal(entries[1].value, '{"address":"192.0.2.1:32768","tags":[],"weight":1}')
  test.equal(#json.decode(entries[1].value).tags, 0)
end)

test.case("a wrong weight is an error", function()
  for _, weight in ipairs { "-1", "1.5", "much", "" } do
    local went_well, why = pcall(register.entries, test.container { labels = { SERVICE_WEIGHT = weight } })
    test.equal(went_well, false)
    test.equal(why:match("its label .*"),
      "its label SERVICE_WEIGHT, `" .. weight .. "`, is no weight: weights are whole numbers from 0")
  end
end)
