local register, test = require "opt_in", require "test"

-- Whether a container with this value of the label is accepted, and if not, why.
local function accept(value)
  return register.accept(test.container { labels = { ["com.docker.compose.project"] = value } })
end

test.case("a container that has the label is registered", function()
  test.equal(accept("true"), true)
  test.equal(#register.entries(test.container { labels = { ["com.docker.compose.project"] = "acme" } }), 2)
end)

test.case("any other is not", function()
  for _, value in ipairs { "", "0", "False" } do
    test.equal(accept(value), false)
  end
  test.equal({ accept(nil) }, { false, "it has no label com.docker.compose.project=true" })
end)

test.case("the label is not all that is asked", function()
  local container = test.container { health = "unhealthy", labels = { ["com.docker.compose.project"] = "acme" } }
  test.equal({ register.accept(container) }, { false, "its health is unhealthy" })
end)
