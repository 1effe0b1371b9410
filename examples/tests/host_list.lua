local register, test = require "host_list", require "test"

-- The value of the host's key in each of these snapshots.
local function values(snapshots)
  local values = {}
  for i, entries in ipairs(test.run(register, snapshots)) do
    for _, entry in ipairs(entries) do
      if entry.key == "/hosts/alpha" then values[i] = entry.value end
    end
  end
  return values
end

test.case("the host's key has the names of its registered containers", function()
  local web, api = test.container { name = "web-1" }, test.container { name = "api-1" }
  local paused = test.container { name = "db-1", status = "paused" }
  test.equal(values { { web }, { web, api, paused }, {} }, { '["web-1"]', '["api-1","web-1"]', "[]" })
end)

test.case("it is beside the keys of the containers", function()
  local web = test.container { name = "web-1", id = "abcdef0123456789" }
  test.equal(test.run(register, { { web } }), { {
    { key = "/backends/web/1/abcdef012345", value = "192.0.2.1:32768", ttl = 60 },
    { key = "/backends/web/1/port", value = "80", ttl = 60, shared = true },
    { key = "/hosts/alpha", value = '["web-1"]', ttl = 60 },
  } })
end)
