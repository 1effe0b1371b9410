local discover, nginx, test = require "discover", require "nginx", require "test"

discover.bind = { "127.0.0.1", "::1" }
discover.targets = { nginx }

-- The configuration of these services, without its beginnings.
local function configuration(...)
  nginx.head, nginx.http, nginx.stream = function() return "" end, "", ""
  local services = {}
  for _, fields in ipairs { ... } do services[#services + 1] = test.service(fields) end
  return test.file(discover, services, "nginx.conf")
end

test.case("the file begins with what nginx needs to run as any user", function()
  local text = test.file(discover, { test.service { attributes = { http = "a.example.com" } } }, "nginx.conf")
  for _, line in ipairs {
    "pid /run/nginx.pid;\n", "error_log stderr;\n", "include /etc/nginx/modules-enabled/*.conf;\n", "  access_log off;\n",
    "  proxy_temp_path /run/nginx-proxy;\n",
  } do
    test.equal(text:find(line, 1, true) ~= nil, true)
  end
end)

test.case("a service listens on its port, and each member is a server", function()
  discover.server_options = "weight=2"
  test.equal(configuration { members = { "10.0.0.1:32768", "10.0.0.2:32769" } }, [[
stream {
  upstream web.1 {
    least_conn;
    server 10.0.0.1:32768 weight=2;
    server 10.0.0.2:32769 weight=2;
  }
  server {
    listen 127.0.0.1:8005 so_keepalive=on;
    listen [::1]:8005 so_keepalive=on;
    proxy_pass web.1;
  }
}
]])
end)

test.case("a service without a member has a server that is down", function()
  local text = configuration {}
  test.equal(text:find("    server 127.0.0.1:1 down;\n", 1, true) ~= nil, true)
end)

test.case("a session of UDP ends with its last answer, if their number is known", function()
  local text = configuration { protocol = "udp", port = 53, attributes = { responses = "2" } }
  test.equal(text:match("  server {.*  }\n"), [[
  server {
    listen 127.0.0.1:53 udp;
    listen [::1]:53 udp;
    proxy_timeout 1m;
    proxy_responses 2;
    proxy_pass web.1;
  }
]])
  test.equal(configuration({ protocol = "udp" }):find("proxy_responses", 1, true), nil)
end)

test.case("services with host names share an address, and other names get 503", function()
  local text = configuration(
    { name = "a", attributes = { http = "b.example.com, A.example.org" } },
    { name = "b", port = 80, attributes = { http = "b.example.com" }, created = 2 })
  test.equal(text:find("stream {", 1, true), nil)
  test.equal(text:match("  server {\n    listen 127.0.0.1:80 default_server.*"), [[
  server {
    listen 127.0.0.1:80 default_server so_keepalive=on;
    return 503;
  }
  server {
    listen 127.0.0.1:80;
    server_name a.example.org;
    location / {
      proxy_pass http://a.1;
    }
  }
  server {
    listen 127.0.0.1:80;
    server_name b.example.com;
    location / {
      proxy_pass http://a.1;
    }
  }
}
]])
end)

test.case("a name in UDP with host names is not shared", function()
  local listener = discover.listener(test.service { protocol = "udp", attributes = { http = "a.example.com" } })
  test.equal(listener.shared, nil)
end)

test.case("names that nginx does not have are written otherwise, each in its own way", function()
  test.equal(nginx.name("a.b_c-d"), "a.b_c-d")
  test.equal(nginx.name("Web"), "_x57eb")
  test.equal(nginx.name("_x57eb"), "_x5fx57eb")
  test.equal(nginx.name('a;{$host} "'), "a_x3b_x7b_x24host_x7d_x20_x22")
  test.equal(nginx.name("größe"), "gr_xc3_xb6_xc3_x9fe")
end)

test.case("what nginx cannot serve is left out", function()
  local accepted, why = discover.accept(test.service { protocol = "sctp" })
  test.equal({ accepted, why }, { false, "nginx has no sctp" })
end)

test.case("a number of responses that is none is an error of its service", function()
  for _, text in ipairs { "x", "-1", "1.5", "", "1; }", "999999" } do
    local service = test.service { protocol = "udp", attributes = { responses = text } }
    test.equal(pcall(discover.listener, service), false)
  end
end)
