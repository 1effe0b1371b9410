local discover, test = require "two_targets", require "test"

discover.bind = { "127.0.0.1" }

local web = test.service { members = { "10.0.0.1:32768" } }
local dns = test.service { name = "dns", port = 53, protocol = "udp", members = { "10.0.0.2:32768" } }

test.case("each proxy has what it can route to, and no more", function()
  for file, wanted in pairs { ["haproxy.cfg"] = "127.0.0.1:8005", ["nginx.conf"] = "127.0.0.1:53" } do
    local text = test.file(discover, { web, dns }, file)
    for _, address in ipairs { "127.0.0.1:8005", "127.0.0.1:53" } do
      test.equal(text:find(address, 1, true) ~= nil, address == wanted)
    end
  end
end)

test.case("the options of a server are those of its proxy", function()
  test.equal(discover.listener(web).servers[1].options:find("check", 1, true), 1)
  test.equal(discover.listener(dns).servers[1].options, "max_fails=1 fail_timeout=5s")
end)

test.case("what neither has is left out", function()
  local accepted, why = discover.accept(test.service { protocol = "sctp" })
  test.equal({ accepted, why }, { false, "HAProxy has no sctp" })
end)
