local register, test = require "compose_names", require "test"

-- What the first port of a container with these labels is named.
local function name(project, service)
  local labels = { ["com.docker.compose.project"] = project, ["com.docker.compose.service"] = service }
  local container = test.container { image = "acme/web", labels = labels }
  return register.service(container, container.ports[1])
end

test.case("project and service name it", function()
  test.equal(name("shop", "frontend"), "shop-frontend")
end)

test.case("a container that Compose did not start has the default's name", function()
  test.equal({ name(nil, nil), name("shop", nil) }, { "web", "web" })
end)

test.case("a one-off is left out", function()
  local labels = { ["com.docker.compose.project"] = "shop", ["com.docker.compose.service"] = "web" }
  labels["com.docker.compose.oneoff"] = "False"
  test.equal(#register.entries(test.container { labels = labels }), 2)
  labels["com.docker.compose.oneoff"] = "True"
  local entries, why = register.entries(test.container { labels = labels })
  test.equal({ entries, why }, { {}, { "it is a one-off of `docker compose run`" } })
end)

test.case("a label cannot reach outside its segment", function()
  local labels = { ["com.docker.compose.project"] = "..", ["com.docker.compose.service"] = "/x" }
  test.equal(pcall(register.entries, test.container { labels = labels }), false)
end)
