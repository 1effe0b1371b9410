local register, test = require "drain", require "test"

test.case("a container that is renamed loses its keys", function()
  test.equal(#register.entries(test.container { name = "web-1" }), 2)
  local entries, why = register.entries(test.container { name = "web-1-drain" })
  test.equal({ entries, why }, { {}, { "its name ends with -drain" } })
end)

test.case("the end of the name counts", function()
  for _, name in ipairs { "web-drain-1", "drain", "web-1-drained" } do
    test.equal(register.accept(test.container { name = name }), true)
  end
end)

test.case("one that is not drained may be left out for another reason", function()
  test.equal({ register.accept(test.container { status = "paused" }) }, { false, "it is paused" })
end)
