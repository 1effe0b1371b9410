-- A hosts file: each service's name at the addresses that it listens on. Use it beside a proxy, with a loopback address
-- for each service, so that no two want one address: `redis:6379` and `cache:6379` are two services then.
--
--   docker-register discover --set target=haproxy,hosts --set bind=loopback
--
-- dnsmasq reads the file by `addn-hosts=DIR/hosts`, at a HUP. Capital letters, and characters that host names do not
-- have, are written by the number of their byte, as `_x57`. There are no settings.
local nginx = require "nginx"

local hosts = { lists = "addresses", name = nginx.name }

function hosts.accept(service)
  local name = hosts.name(service.name)
  if name == "localhost" then return false, "localhost is this host" end
  if #name > 253 then return false, "its name is too long for a host" end
  return true
end

function hosts.identifier(text) return text end

function hosts.files(services)
  local lines, known = { "# docker-register discover replaces this file.\n" }, {}
  for _, service in ipairs(services) do
    for _, address in ipairs(service.listener.listen) do
      local line = address:match("^%[?([^%]]+)%]?:%d+$") .. " " .. hosts.name(service.name) .. "\n"
      if not known[line] then lines[#lines + 1], known[line] = line, true end
    end
  end
  return { { name = "hosts", text = table.concat(lines) } }
end

return hosts
