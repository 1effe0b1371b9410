---@meta

-- The Lua API of docker-register $VERSION, for lua-language-server. `docker-register types >docker-register.lua` writes
-- this file. Put it into a directory that the setting `workspace.library` lists.

--- A container. The table is read-only. It is the same table until the container changes. Reading a field that does
--- not exist is an error.
---@class Container
---@field id string the whole id: 64 hex digits
---@field short_id string its first 12 digits
---@field name string without Docker's leading slash
---@field hostname string the host name inside it
---@field image Image its image's reference, in parts
---@field labels table<string, string> its own and its image's
---@field env table<string, string> its own and its image's
---@field status string "running", "paused", "restarting", …: Docker's word
---@field health "none"|"starting"|"healthy"|"unhealthy" "none" if it has no health check
---@field stopping boolean whether it was sent its stop signal, TERM or KILL and has not survived it
---@field ports Port[] all exposed ports, in order of port number, then protocol
---@field networks table<string, Network> by name
---@field network_mode string "bridge", "host", "container:ID", the name of a network, …
---@field created string the time when it was created, as Docker writes it
---@field started string the time of its last start, as Docker writes it
---@field inspect table the whole inspect object; fields that raise no event, such as the health log, may be up to ten `--resync` intervals old

--- The parts of an image reference such as `registry.example.org:5000/team/app:1.2@sha256:…`.
---@class Image
---@field reference string as the container was created with it
---@field registry string? `registry.example.org:5000`; nil if none is named
---@field repository string? `team/app`; nil if the image was given by its id
---@field name string? the last part of the repository: `app`
---@field tag string? `latest` if neither a tag nor a digest is named
---@field digest string? `sha256:…`; nil if none is named
---@field id string the image's id: `sha256:…`

---@class Port
---@field port integer the number inside the container
---@field protocol "tcp"|"udp"|"sctp"
---@field index integer its place among all exposed ports, published or not, from 1
---@field host_ip string? the host's address that it is published on, the best if there are several; nil if it is not published
---@field host_port integer? the port on the host; nil if it is not published
---@field bindings Binding[] all that it is published on, the best first: addresses that others can reach before loopback, IPv4 before IPv6

---@class Binding
---@field ip string the host's address; `0.0.0.0` or `::` for all of them
---@field port integer the port on the host

---@class Network
---@field ip string? the container's IPv4 address in it
---@field ip6 string? the container's IPv6 address in it
---@field aliases string[] the container's names in it

--- One key that should exist.
---@class (exact) Entry
---@field key string|number up to 2048 bytes of segments between slashes
---@field value string|number up to 16 KiB; a number becomes its decimal digits
---@field ttl integer? seconds that the key outlives its registrar, from 1 to 86400; `options.ttl` if nil
---@field shared boolean? whether other hosts want the same key, so that it must outlive any one of them

--- `require "register"`: the default policy. A site overrides a decision by assigning it. Assigning a field that does
--- not exist, or a value of another type, is an error.
---@class register
---@field prefix string the beginning of every key (`options.prefix`)
---@field ttl integer the lifetime of keys after their registrar dies, in seconds (`options.ttl`)
---@field host_ip string the address of ports that are bound to every address of this host (`options.host_ip`)
---@field protocols string the registered protocols, with commas between them (`options.protocols`, else `tcp`)
local register = {}

--- Whether a container is registered, and if not, why.
---@param container Container
---@return boolean accepted
---@return string? why
function register.accept(container) end

--- Whether a port of an accepted container is registered, and if not, why.
---@param container Container
---@param port Port
---@return boolean accepted
---@return string? why
function register.accept_port(container, port) end

--- The service that a port belongs to.
---@param container Container
---@param port Port
---@return string
function register.service(container, port) end

--- The service of a port in a layout that has one for each port, as all bundled layouts do: `<service>-<port>` if the
--- container has several ports, unless `SERVICE_<port>_NAME` names it.
---@param container Container
---@param port Port
---@param count integer the number of the container's ports
---@return string
function register.port_service(container, port, count) end

--- The key segment that tells the containers of a service apart.
---@param container Container
---@return string
function register.member(container) end

--- The address at which a port is reached.
---@param container Container
---@param port Port
---@return string
function register.address(container, port) end

--- The value of the `port` key.
---@param container Container
---@param port Port
---@return string
function register.port_value(container, port) end

--- The ports of a container that are registered, for any layout. The second result, for `--explain`, has a reason for
--- each port that is left out, or one for all.
---@param container Container
---@return Port[] ports
---@return string[] left_out
function register.ports(container) end

--- The TCP ports of a list, for layouts whose reader knows no other protocol.
---@param ports Port[]
---@param left_out string[] gets a line for each other port
---@param why string the end of such a line: "gRPC is spoken over TCP"
---@return Port[]
function register.tcp_ports(ports, left_out, why) end

--- The keys of a container. The second result, for `--explain`, has the reasons why ports are left out.
---@param container Container
---@return Entry[] entries
---@return string|string[]|nil left_out
function register.entries(container) end

--- Keeps etcd in step, for ever.
function register.run() end

--- A policy with these entries. It shares every decision except `entries` and `run` with `register`: reading one reads
--- register's, assigning one sets it there. Each bundled layout is such a policy. So `require("coredns").entries`
--- makes that layout's entries, and `register.entries` is unchanged.
---@param entries fun(container: Container): Entry[], string|string[]|nil
---@return register
function register.layout(entries) end

--- `require "docker"`
---@class docker
local docker = {}

--- Whole snapshots, for `for containers in docker.watch() do … end`: one at the start, then one after each change and
--- every `--resync`. There is none while Docker does not answer. It waits, so it can be called only in `run`.
---@return fun(): Container[]?
function docker.watch() end

--- One snapshot. It waits, so it can be called only in `run`.
---@return Container[]
function docker.containers() end

--- `require "etcd"`
---@class etcd
local etcd = {}

--- Joins segments to a key with `/`. It is an error if a segment is empty, `.` or `..`, has a slash or a control
--- character, or is longer than 255 bytes.
---@param ... string|integer
---@return string
function etcd.key(...) end

--- Returns the text if it can be one segment of a key. Else it is an error that names the text and, if it is the value of
--- a label or an environment variable of the container, that one: "the service name `a/b` (label SERVICE_NAME) has a
--- slash".
---@param what string the text's name in the error: "the service name"
---@param text string|integer
---@param container? Container
---@return string
function etcd.segment(what, text, container) end

--- Sets this registrar's keys in etcd to the entries of these containers; its other keys are removed. `entries` is
--- called once for each container that has changed, for at most a second. If the call fails, the container keeps the
--- keys that it had. Call `etcd.sync` once for each snapshot, in `run`.
---@param containers Container[]
---@param entries fun(container: Container): Entry[], string|string[]|nil
function etcd.sync(containers, entries) end

--- The value of a key; nil if there is none. It waits, also while etcd cannot be reached, so it can be called only in
--- `run`.
---@param key string
---@return string?
function etcd.get(key) end

--- The values of all keys that begin with `prefix`, by key. It waits like `etcd.get`.
---@param prefix string
---@return table<string, string>
function etcd.list(prefix) end

--- `require "json"`
---@class json
---@field null lightuserdata JSON's null; nil would leave the field out
local json = {}

--- Fields are in the order of their names, so the same content has the same text. An empty table is an object.
---@param value any
---@return string
function json.encode(value) end

---@param text string
---@return any
function json.decode(text) end

--- `require "log"`: writes lines to the registrar's own log. `print` is `log.info`.
---@class log
local log = {}

---@param ... any
function log.debug(...) end

---@param ... any
function log.info(...) end

---@param ... any
function log.warn(...) end

---@param ... any
function log.error(...) end

--- `require "options"`: settings from the command line and facts about the host, read-only. `--set NAME=VALUE` sets
--- the field `NAME`, a string.
---@class options
---@field prefix string `--prefix`, without a slash at its end
---@field ttl integer `--ttl`, in seconds
---@field host_ip string `--host-ip`, or the address that was detected
---@field instance string `--instance`
---@field interfaces table<string, string[]> the addresses of each network interface of the host, IPv4 first
---@field [string] string?
local options = {}

--- `require "test"`, only in `docker-register test`.
---@class test
local test = {}

--- Runs a test. It fails if `body` raises an error.
---@param name string
---@param body fun()
function test.case(name, body) end

--- Fails unless both are equal; tables are compared field by field.
---@param got any
---@param want any
function test.equal(got, want) end

--- Fails unless the policy's `entries` returns exactly these for a container; its second result is ignored.
---@param policy register
---@param container Container|table from `test.container`, or the fields to make it from
---@param wanted Entry[]
function test.entries(policy, container, wanted) end

--- A container with these fields; each has a default. `image` is a reference string. `inspect` is merged over the
--- inspect object that the other fields make.
---@param fields? table
---@return Container
function test.container(fields) end

--- The containers of saved `docker inspect` output, in a file beside the test.
---@param file string
---@return Container[]
function test.containers(file) end

---@param name "register"|"coredns"|"docker_discover"|"go_zero"|"grpc"|"registrator"|"traefik"
---@return register
---@overload fun(name: "docker"): docker
---@overload fun(name: "etcd"): etcd
---@overload fun(name: "json"): json
---@overload fun(name: "log"): log
---@overload fun(name: "options"): options
---@overload fun(name: "test"): test
---@overload fun(name: string): any
function require(name) end
