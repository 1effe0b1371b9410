-- Two proxies on one host: HAProxy has TCP and HTTP, and nginx has UDP.
--
--   nginx -c /var/lib/docker-register/nginx.conf -g 'daemon off;'
--   docker-register discover --script two_targets.lua --set responses=1 \
--     --check 'nginx -t -c "$DIRECTORY/nginx.conf"' --reload 'nginx -c "$DIRECTORY/nginx.conf" -s reload'
--
-- nginx is a service of its own, which is started again until its file is there. Setting: responses, the number of
-- datagrams that answer one (1 for DNS), where a service has not registered it by SERVICE_RESPONSES.
local discover, haproxy, nginx = require "discover", require "haproxy", require "nginx"

discover.targets = { haproxy, nginx }

function nginx.accept(service)
  if service.protocol ~= "udp" then return false, "nginx has UDP alone" end
  return true
end

return discover
