-- The beginnings of nginx's file and of its blocks `http` and `stream`.
local options, proxy = require "options", require "proxy"

local function word(path)
  return path:find("^[%w/.*_-]+$") and path or '"' .. path:gsub('[\\"]', "\\%0") .. '"'
end

local defaults = {}

function defaults.head()
  return "worker_processes auto;\nworker_rlimit_nofile 65536;\n"
    .. "# Long connections keep an old worker alive.\nworker_shutdown_timeout 1h;\n"
    .. "error_log stderr;\npid " .. word(proxy.pid_file) .. ";\n"
    .. "include " .. word(options.nginx_modules or "/etc/nginx/modules-enabled/*.conf") .. ";\n"
    .. "events {\n  worker_connections 16384;\n}\n"
end

-- A plain proxy: it keeps, limits and changes as little as it can.
defaults.http = [[
  access_log off;
  server_tokens off;
  server_names_hash_max_size 16384;
  server_names_hash_bucket_size 512;
  underscores_in_headers on;
  client_max_body_size 0;
  proxy_buffering off;
  proxy_request_buffering off;
  # A server that does not answer costs half a second.
  proxy_connect_timeout 500ms;
  proxy_next_upstream_tries 4;
  proxy_socket_keepalive on;
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $docker_register_connection;
  map $http_upgrade $docker_register_connection {
    default upgrade;
    "" "";
  }
]]

-- Any user may write below `--directory`.
for _, name in ipairs { "client_body", "proxy", "fastcgi", "uwsgi", "scgi" } do
  defaults.http = defaults.http .. "  " .. name .. "_temp_path " .. word(proxy.directory .. "/nginx-" .. name) .. ";\n"
end

defaults.stream = [[
  proxy_connect_timeout 500ms;
  proxy_timeout 1h;
  proxy_next_upstream_tries 4;
  proxy_socket_keepalive on;
]]

return defaults
