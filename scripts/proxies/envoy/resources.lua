-- Envoy's clusters and listeners (xDS v3) as tables for JSON. In Envoy, fields that are left out have defaults of their
-- own; those that are here differ from them.
local json = require "json"

local resources = {}

local function typed(name, fields)
  fields["@type"] = "type.googleapis.com/envoy." .. name
  return fields
end

-- An extension with its configuration.
local function extension(name, kind, fields)
  return { name = "envoy." .. name, typed_config = typed("extensions." .. kind, fields) }
end

local function socket_address(address, protocol)
  local host, port = address:match("^%[?([^%]]+)%]?:(%d+)$")
  return { socket_address = { address = host, port_value = tonumber(port), protocol = protocol } }
end

-- A server that does not answer costs half a second. A status of 500 is the server's answer, and no failure. Servers
-- are asked in turn, so a second try finds another one.
function resources.cluster(name, servers)
  local endpoints, most = {}, 1000000
  for i, server in ipairs(servers) do endpoints[i] = { endpoint = { address = socket_address(server.address) } } end
  return typed("config.cluster.v3.Cluster", {
    name = name,
    type = "STATIC",
    connect_timeout = "0.5s",
    load_assignment = { cluster_name = name, endpoints = { { lb_endpoints = json.array(endpoints) } } },
    outlier_detection = {
      split_external_local_origin_errors = true,
      consecutive_local_origin_failure = 1,
      enforcing_local_origin_success_rate = 0,
      enforcing_consecutive_5xx = 0,
      enforcing_success_rate = 0,
      interval = "1s",
      base_ejection_time = "5s",
      max_ejection_time = "5s",
      max_ejection_percent = 100,
    },
    -- When all servers are left alone, all are tried.
    common_lb_config = { healthy_panic_threshold = { value = 1 } },
    circuit_breakers = {
      thresholds = {
        { max_connections = most, max_pending_requests = most, max_requests = most, max_retries = most },
      },
    },
    upstream_connection_options = { tcp_keepalive = {} },
  })
end

local function listener(name, address, protocol, fields)
  fields.name, fields.address = name .. " " .. address, socket_address(address, protocol)
  return typed("config.listener.v3.Listener", fields)
end

function resources.tcp(name, address)
  local filter = extension("filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", {
    stat_prefix = name, cluster = name, idle_timeout = "3600s", max_connect_attempts = 4,
  })
  return listener(name, address, "TCP", { filter_chains = { { filters = { filter } } } })
end

function resources.udp(name, address)
  local route = typed("extensions.filters.udp.udp_proxy.v3.Route", { cluster = name })
  local filter = extension("filters.udp_listener.udp_proxy", "filters.udp.udp_proxy.v3.UdpProxyConfig", {
    stat_prefix = name,
    idle_timeout = "60s",
    matcher = { on_no_match = { action = { name = "route", typed_config = route } } },
  })
  return listener(name, address, "UDP", { listener_filters = { filter } })
end

-- Requests for these names go to a cluster. One that may be sent twice is, if its server was lost.
function resources.virtual_host(name, domains, cluster)
  local previous = "retry.host.previous_hosts.v3.PreviousHostsPredicate"
  local other = extension("retry_host_predicates.previous_hosts", previous, {})
  local function route(headers, retry_on)
    local retries = {
      retry_on = retry_on, num_retries = 3, retry_host_predicate = { other }, host_selection_retry_max_attempts = 3,
    }
    return {
      match = { prefix = "/", headers = headers },
      route = { cluster = cluster, timeout = "0s", retry_policy = retries },
    }
  end
  local safe = { name = ":method", string_match = { safe_regex = { regex = "GET|HEAD|OPTIONS" } } }
  return {
    name = name,
    domains = domains,
    routes = { route({ safe }, "connect-failure,refused-stream,reset"), route(nil, "connect-failure,refused-stream") },
  }
end

function resources.http(name, address, virtual_hosts)
  local router = extension("filters.http.router", "filters.http.router.v3.Router", {})
  local manager = "filters.network.http_connection_manager"
  local filter = extension(manager, manager .. ".v3.HttpConnectionManager", {
    stat_prefix = name,
    use_remote_address = true, -- it adds X-Forwarded-For
    server_header_transformation = "PASS_THROUGH",
    http_protocol_options = { accept_http_10 = true, default_host_for_http_10 = "localhost" },
    stream_idle_timeout = "3600s",
    upgrade_configs = { { upgrade_type = "websocket" } },
    http_filters = { router },
    route_config = {
      name = name, ignore_port_in_host_matching = true, virtual_hosts = json.array(virtual_hosts),
    },
  })
  return listener(name, address, "TCP", { filter_chains = { { filters = { filter } } } })
end

return resources
