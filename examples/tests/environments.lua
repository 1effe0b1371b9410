local register, test = require "environments", require "test"

test.case("the label names the environment", function()
  local labels = { ["com.example.environment"] = "prod" }
  test.entries(register, { id = "abcdef0123456789", labels = labels }, {
    { key = "/backends/prod/web/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60 },
    { key = "/backends/prod/web/1/port", value = "80", ttl = 60, shared = true },
  })
end)

test.case("a container without the label is in that of the setting", function()
  local entries = register.entries(test.container())
  test.equal(entries[2].key, "/backends/staging/web/1/port")
end)

test.case("an environment stays in its segment", function()
  local labels = { ["com.example.environment"] = "../prod" }
  local went_well, why = pcall(register.entries, test.container { labels = labels })
  test.equal(went_well, false)
  test.equal(why:match("the environment .*"), "the environment `../prod` (label com.example.environment) has a slash")
end)
