-- Adds a key for each host: the names of its registered containers. It is there as long as the host's docker-register
-- runs, and for a TTL after that, so it also tells which hosts are alive:
--
--   /hosts/<host>   ["api-1","web-1"]
--
--   docker-register --script host_list.lua --set host=$(hostname)
--
-- Settings: host, the host's name (by default `options.hostname`: in a container, that of the container, unless it runs
-- with `--uts=host`); directory, where the keys are (/hosts).
local etcd, json, options, register = require "etcd", require "json", require "options", require "register"

local key = (options.directory or "/hosts") .. "/" .. etcd.key(options.host or options.hostname)

function register.host_entries(containers)
  local names = json.array {}
  for _, container in ipairs(containers) do
    if register.accept(container) then names[#names + 1] = container.name end
  end
  table.sort(names)
  return { { key = key, value = json.encode(names), ttl = register.ttl } }
end

return register
