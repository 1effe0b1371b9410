---@meta

-- The Lua API of docker-register $VERSION, for lua-language-server. `docker-register types >docker-register.lua` writes
-- this file. Put it into a directory that the setting `workspace.library` lists.

--- A container. The table is read-only. It is the same table until the container changes, and a policy is asked again
--- when it has changed, not when time passes. Reading a field that does not exist is an error.
---@class Container
---@field id string the whole id: 64 hex digits
---@field short_id string its first 12 digits
---@field name string without Docker's leading slash
---@field hostname string the host name inside it
---@field image Image its image's reference, in parts
---@field labels table<string, string> its own and its image's
---@field env table<string, string> its own and its image's
---@field status string "running", "paused", "restarting", …: Docker's word
---@field health string "none" (no health check), "starting", "healthy", "unhealthy", …: Docker's word
---@field stopping boolean whether it was sent its stop signal, TERM or KILL and has not survived it
---@field ports Port[] all exposed ports, in order of port number, then protocol
---@field networks table<string, Network> by name
---@field network_mode string "bridge", "host", "container:ID", the name of a network, …
---@field network_owner string? the name of the container whose network it uses; nil if it has one of its own
---@field cut_off boolean whether the owner of its network has started after it, so that nobody reaches it until it restarts
---@field infra string? why it counts as an infra container, which only holds the network of a pod; nil if it does not
---@field created string the time when it was created, as Docker writes it
---@field created_at integer? the same as seconds since 1970; nil if it is not known
---@field started string the time of its last start, as Docker writes it
---@field started_at integer? the same as seconds since 1970; nil if it has never started
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
---@field guests string? the containers in its container's network that expose it, so that it is theirs; nil if there are none

---@class Binding
---@field ip string the host's address; `0.0.0.0` or `::` for all of them
---@field port integer the port on the host

---@class Network
---@field ip string? the container's IPv4 address in it
---@field ip6 string? the container's IPv6 address in it
---@field gateway string? the host's IPv4 address in it
---@field gateway6 string? the host's IPv6 address in it
---@field aliases string[] the container's names in it

--- One key that should exist.
---@class (exact) Entry
---@field key string|number up to 2048 bytes of segments between slashes
---@field value string|number up to 16 KiB; a number becomes its decimal digits
---@field ttl integer? seconds that the key outlives its registrar, from 1 to 86400; `options.ttl` if nil
---@field shared boolean? whether other hosts want the same key, so that it must outlive any one of them
---@field check Check? the key exists only while this passes; nil for a key that always exists

--- How to see whether a service answers: with one of `http`, `https` and `tcp`, with `uptime`, or with both. The fields
--- from `address` to `fall` belong to the first three.
---@class (exact) Check
---@field http string? a path: a request for it must be answered with a `status`, within the timeout and to its end
---@field https string? the same over TLS
---@field tcp boolean? true: a connection must be accepted
---@field uptime number? seconds that the container must have run, up to a day
---@field address string? `host:port`, with brackets around an IPv6 address; the entry's value if nil
---@field interval number? seconds between two probes, from 0.1 to 3600; 2 if nil
---@field timeout number? seconds for a whole probe, from 0.01 to the interval; 1 if nil, or the interval if that is less
---@field rise integer? the successes in a row that register the key, from 1 to 100; 1 if nil
---@field fall integer? the failures in a row that remove the key, from 1 to 100; 3 if nil
---@field method string? of `http` and `https`, in capital letters; GET if nil
---@field host string? of `http` and `https`: the header Host and the name in the certificate; those of the address if nil
---@field headers table<string, string>? of `http` and `https`: further headers
---@field status string|integer|nil of `http` and `https`: the good statuses, such as `200-299,404`; `200-399` if nil
---@field insecure boolean? of `https`: whether any certificate will do
---@field send string? of `tcp`: a text that is sent first, up to 4 KiB; it needs `expect`
---@field expect string? of `tcp`: a text that the answer must contain, up to 4 KiB

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

--- A name as a DNS label, for layouts that need one: in lower case, and with `-` for `_`. Any other change is an error,
--- because two names could then become one label.
---@param name string
---@return string
function register.dns_label(name) end

--- The key segment that tells the containers of a service apart.
---@param container Container
---@return string
function register.member(container) end

--- The binding of a port that is registered; nil if other hosts reach none. By default the one at `host_ip`, else at
--- every address, else at a global one, else at a private one; never loopback, link-local or a bridge of Docker's.
---@param container Container
---@param port Port
---@return Binding?
function register.binding(container, port) end

--- The host and the number at which a port is reached, for layouts that need them apart.
---@param container Container
---@param port Port
---@return string host an address or a name, without brackets
---@return integer number
function register.endpoint(container, port) end

--- The address at which a port is reached: `endpoint` as one text, with brackets around an IPv6 address.
---@param container Container
---@param port Port
---@return string
function register.address(container, port) end

--- The value of a container's key: `address`. Layouts have values of their own.
---@param container Container
---@param port Port
---@return string|number
function register.value(container, port) end

--- The directory of a port's keys: `<prefix>/<service>/<n>`. A service's name has no slash, so a site that wants more
--- levels overrides this. Layouts have directories of their own.
---@param container Container
---@param port Port
---@return string
function register.directory(container, port) end

--- The value of the `port` key.
---@param container Container
---@param port Port
---@return string
function register.port_value(container, port) end

--- The host names at which readers reach a port by HTTP, with commas between them; nil for none.
---@param container Container
---@param port Port
---@return string?
function register.http(container, port) end

--- The number of datagrams that answer one, for readers that forward UDP; nil if it is not known.
---@param container Container
---@param port Port
---@return string?
function register.responses(container, port) end

--- How the service of a port is checked; nil for no check. By default the labels `SERVICE_CHECK_HTTP` and so on say it.
---@param container Container
---@param port Port
---@return Check?
function register.check(container, port) end

--- The check for each entry of a port: `check`, with the address that is asked. Through loopback, where Docker's proxy
--- accepts every connection, `tcp` without `expect` asks the container's own address. A layout puts it on its entries.
---@param container Container
---@param port Port
---@return Check?
function register.checked(container, port) end

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

--- The keys that belong to this host and to no container, such as a list of its containers: none by default. It is
--- called for each snapshot that differs from the last. If it fails, the host's keys stay as they were.
---@param containers Container[]
---@return Entry[] entries
---@return string|string[]|nil left_out
function register.host_entries(containers) end

--- Keeps the store in step, for ever.
function register.run() end

--- A policy with these entries. It shares every decision except `entries` and `run` with `register`: reading one reads
--- register's, assigning one sets it there. Each bundled layout is such a policy. So `require("coredns").entries`
--- makes that layout's entries, and `register.entries` is unchanged.
---@param entries fun(container: Container): Entry[], string|string[]|nil
---@return register
function register.layout(entries) end

--- `require "decisions"`: makes tables of decisions such as `register`.
---@class decisions
local decisions = {}

--- The table `own` as a site sees it. Reading or setting a name that it does not have is an error with the nearest
--- name, and so is setting a value of another type. `results` has the types of what functions return, such as
--- `"boolean, string?"`: a site's function that returns another type is an error that names it, its file and its line.
---@generic T: table
---@param name string the module's name, for messages
---@param own T
---@param results table<string, string>
---@param touched? fun(own: table, field: string) is told each name that is read or set
---@return T
function decisions.guard(name, own, results, touched) end

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

--- `require "store"`, or by its older name `require "etcd"`. The keys are in the store that is in use.
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

--- Sets this registrar's keys to the entries of these containers and of the host; its other keys are removed.
--- `entries` is called once for each container that has changed, for at most a second, and not when time passes. If the
--- call fails, the container keeps the keys that it had. `host_entries` is called in the same way with all containers,
--- when they have changed. Each other function, such as a closure made in the loop, asks about all of them again. Call
--- `etcd.sync` once for each snapshot, in `run`.
---@param containers Container[]
---@param entries fun(container: Container): Entry[], string|string[]|nil
---@param host_entries? fun(containers: Container[]): Entry[], string|string[]|nil
function etcd.sync(containers, entries, host_entries) end

--- The value of a key; nil if there is none. It waits, also while the store cannot be reached, so it can be called only
--- in `run`.
---@param key string
---@return string?
function etcd.get(key) end

--- The values of all keys that begin with `prefix`, by key. It waits like `etcd.get`.
---@param prefix string
---@return table<string, string>
function etcd.list(prefix) end

--- `require "store"`, or `require "etcd"`, in a policy of `discover`.
---@class reading_etcd
local reading_etcd = {}

--- The registered services, for `for services in etcd.services(discover.service) do … end`: all of them at the start,
--- then after each change. There are none before the store has been listed. `locate` says where a key belongs; nil and
--- a reason leave it out. It waits, so it can be called only in `run`.
---@param locate fun(key: string, value: string): Place?, string?
---@return fun(): Service[]?
function reading_etcd.services(locate) end

--- Where a key belongs: with `port`, or with `member` and `address`, or with `attribute` and `value`. A member may have
--- the `port` too: a service without a key for its port has the one that its oldest member tells.
---@class (exact) Place
---@field service string the service's name
---@field index integer|string the number of the port, from 1
---@field port string? `8005` or `53/udp`
---@field member string? the container's name
---@field address string? `host:port`
---@field attribute string?
---@field value string?

--- A service's port. The table is read-only. It is the same table until the service changes.
---@class Service
---@field name string
---@field index integer
---@field port integer the value of its `port` key
---@field protocol "tcp"|"udp"|"sctp"
---@field members Member[] in order of their names; may be empty
---@field attributes table<string, string> what else is registered beside `port`, such as `http` and `responses`
---@field created integer the store's revision at the first put of its `port` key: the service's age
---@field revision integer the store's revision at its last change
---@field listener Listener? in `files`: with the addresses that the service has got

---@class Member
---@field name string the last segment of its key
---@field host string an IP address, or a host name
---@field port integer
---@field address string as it is registered
---@field created integer the store's revision at the first put of its key

--- Where a service is reached. Of two services that want one address in `listen`, one gets it.
---@class (exact) Listener
---@field listen string|string[]|nil addresses of its own: `127.0.0.1:8005`. In `files` it is a list, and so is `shared`
---@field shared string|string[]|nil addresses that it shares with others, which are told apart by host names
---@field servers Server[]

---@class (exact) Server
---@field name string
---@field address string `ip:port`
---@field options string? the proxy's options for it

--- A file below `--directory`. Where only its servers differ, the proxy is not reloaded.
---@class (exact) File
---@field name string without a slash at its start, and without `..`
---@field text string|(string|Servers)[]

---@class (exact) Servers
---@field backend string
---@field frontend string? the frontend that refuses connections while there is no server
---@field servers Server[]
---@field lines string[] the line of each server

--- Makes the files of services for one reader, such as HAProxy. The bundled ones are `require "haproxy"`, `"nginx"`,
--- `"envoy"`, `"file_sd"` and `"hosts"`; a site may have its own beside its script.
---@class Target
---@field accept fun(service: Service): boolean, string? whether it can route to the service, and if not, why; it is called when the service has changed
---@field identifier fun(text: string): string a server's name in its language; two texts never get one name
---@field options string? the default options of each server
---@field lists "servers"|"addresses"|nil what it lists, if it routes to nothing itself; of servers alone, no service needs an address
---@field files fun(services: Service[], discover: discover): File[] the files, made of the services that it accepts

--- `require "discover"`: the default policy of `discover`. A site overrides a decision by assigning it.
---@class discover
---@field prefix string the beginning of every key (`options.prefix`)
---@field layout "docker_discover"|"registrator"|"" the layout of the keys, if it is not this program's (`options.layout`)
---@field targets Target[] the modules that `options.target` names, else the one of `proxy.name`
---@field bind string[] the addresses that services listen on, of which `loopback` is one by name (`options.bind`, else 127.0.0.1 and docker0's)
---@field http_bind string the address that services with host names share (`options.http_bind`, else `127.0.0.1:80`)
---@field http string[] services that speak HTTP and have registered no host name (`options.http`)
---@field server_options string the proxy's options of each server (`options.server`); empty: those of the target
---@field attributes table<string, boolean> keys beside `port` that are no containers
local discover = {}

--- Where a key belongs; nil and the reason if it is left out.
---@param key string
---@param value string
---@return Place? place
---@return string? why
function discover.service(key, value) end

--- Whether a service gets a route, and if not, why.
---@param service Service
---@return boolean accepted
---@return string? why
function discover.accept(service) end

--- The host names of a service; the second result is one that no request can have.
---@param service Service
---@return string[] hosts
---@return string? bad
function discover.hosts(service) end

--- How a service is reached: it is called when the service has changed.
---@param service Service
---@return "tcp"|"http"|"udp"
function discover.mode(service) end

--- The number of datagrams with which a server of a UDP service answers one; nil if it is not known. By default the
--- attribute `responses`, else `options.responses`.
---@param service Service
---@return integer?
function discover.responses(service) end

--- A loopback address of a service's own, by its name.
---@param service Service
---@return string
function discover.loopback(service) end

--- The addresses that a service has for itself.
---@param service Service
---@return string[]
function discover.listen(service) end

--- The name of a member's server.
---@param service Service
---@param member Member
---@return string
function discover.name(service, member) end

--- The proxy's options of a member's server.
---@param service Service
---@param member Member
---@return string
function discover.options(service, member) end

--- The listener of a service; nil and the reason leave it out. It is called when the service has changed. If the call
--- fails, the service keeps its route.
---@param service Service
---@return Listener? listener
---@return string? why
function discover.listener(service) end

--- The beginning of HAProxy's configuration: `global` and `defaults`.
---@return string
function discover.head() end

--- The addresses that services share, and which service has each host name there: the older of two that want it.
---@param services Service[]
---@return string[] addresses
---@return string[] names sorted
---@return table<string, Service> owners by name
function discover.virtual_hosts(services) end

--- The files that there should be: those of all targets. If the call fails, nothing changes.
---@param services Service[] those that have got an address, or want none
---@return File[]
function discover.files(services) end

--- Keeps the proxy in step, for ever.
function discover.run() end

--- `require "haproxy"`: HAProxy's configuration language.
---@class haproxy: Target
---@field checks string options of a server: passive checks, and rare active ones
---@field http string the lines of a section in HTTP mode
local haproxy = {}

--- The name of a service's section.
---@param service Service
---@return string
function haproxy.section(service) end

--- The section `global`, for the sockets and files that `proxy` names.
---@param proxy proxy
---@return string
function haproxy.global(proxy) end

---@return string
function haproxy.defaults() end

--- HAProxy's own page, on a Unix socket beside `proxy.socket`.
---@param proxy proxy
---@return string
function haproxy.stats(proxy) end

--- The servers of a backend, which can change without a reload. They are read-only.
---@param backend string
---@param frontend string?
---@param servers Server[]
---@return Servers
function haproxy.servers(backend, frontend, servers) end

--- The section of a service: it is called when the service has changed.
---@param service Service
---@param mode "tcp"|"http"
---@return (string|Servers)[]
function haproxy.listen(service, mode) end

--- A frontend on shared addresses that finds the service of a request by its host name.
---@param name string
---@param addresses string[]
---@param hosts table<string, Service>
---@return string
function haproxy.by_host(name, addresses, hosts) end

--- `require "nginx"`: nginx's configuration language.
---@class nginx: Target
---@field http string the beginning of the block `http`
---@field stream string the beginning of the block `stream`
local nginx = {}

--- The beginning of the file, before its blocks.
---@return string
function nginx.head() end

--- A name of an upstream. Two texts never get one name.
---@param text string
---@return string
function nginx.name(text) end

--- `require "envoy"`: Envoy's files.
---@class envoy: Target
local envoy = {}

--- The file that Envoy reads when it starts, as a table for JSON.
---@return table
function envoy.bootstrap() end

--- `require "file_sd"`: Prometheus's list of targets.
---@class file_sd: Target

--- `require "hosts"`: a hosts file.
---@class hosts: Target
local hosts = {}

--- The name of a service in the file. Two texts never get one name.
---@param text string
---@return string
function hosts.name(text) end

--- `require "proxy"`, in a policy of `discover`
---@class proxy
---@field name "haproxy"|"nginx"|"envoy"|"none" the value of `--proxy`
---@field directory string `--directory`
---@field socket string the Unix socket of HAProxy's run-time commands, or of Envoy's admin interface
---@field state_file string HAProxy's file with the servers' states over a reload
---@field pid_file string nginx's pid file
local proxy = {}

--- Brings the proxy in step with these services. `listener` is called for each service that has changed, `files` each
--- time, each for at most a second. Call it once for each list of services, in `run`.
---@param services Service[]
---@param listener fun(service: Service): Listener?, string?
---@param files fun(services: Service[]): File|File[]
function proxy.sync(services, listener, files) end

--- A read-only copy of a table. Of `Servers` that are read-only with all their tables, it is enough to see that they are
--- the same table as the last time, so with many services a change costs less.
---@generic T: table
---@param t T
---@return T
function proxy.read_only(t) end

--- `require "json"`
---@class json
---@field null lightuserdata JSON's null; nil would leave the field out
local json = {}

--- Fields are in the order of their names, so the same content has the same text. An empty table is an object, unless
--- it is marked as a list.
---@param value any
---@return string
function json.encode(value) end

--- Lists of the text are marked as lists.
---@param text string
---@return any
function json.decode(text) end

--- Marks a table as a list, which stays one in JSON while it is empty: `json.array {}`. Returns it.
---@generic T
---@param list? T[]
---@return T[]
function json.array(list) end

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
---@field hostname string the host name that the program sees: in a container, the container's own, unless `--uts=host` or `--set hostname=NAME` gives it the host's
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

--- Runs the policy's `run` over snapshots, each a list of containers or of the fields for one. Returns the entries after
--- each snapshot, in order of their keys. In their `check`, `address` is filled in, and other fields with their default are
--- nil. A failure of the policy for a container, or for the host, fails the test.
---@param policy register
---@param snapshots (Container|table)[][]
---@return Entry[][]
function test.run(policy, snapshots) end

--- A container with these fields; each has a default. `image` is a reference string. `inspect` is merged over the
--- inspect object that the other fields make.
---@param fields? table
---@return Container
function test.container(fields) end

--- The containers of saved `docker inspect` output, in a file beside the test.
---@param file string
---@return Container[]
function test.containers(file) end

--- A service for a reading policy: `web/1` on port 8005, with these fields. A member may be an address alone.
---@param fields? table
---@return Service
function test.service(fields) end

--- The text of a file that a reading policy makes of these services, each of which gets its addresses.
---@param policy discover
---@param services Service[]
---@param name string
---@return string
function test.file(policy, services, name) end

---@param name "register"|"coredns"|"docker_discover"|"go_zero"|"grpc"|"registrator"|"traefik"
---@return register
---@overload fun(name: "discover"): discover
---@overload fun(name: "haproxy"): haproxy
---@overload fun(name: "nginx"): nginx
---@overload fun(name: "envoy"): envoy
---@overload fun(name: "file_sd"): file_sd
---@overload fun(name: "hosts"): hosts
---@overload fun(name: "proxy"): proxy
---@overload fun(name: "decisions"): decisions
---@overload fun(name: "docker"): docker
---@overload fun(name: "store"): etcd
---@overload fun(name: "etcd"): etcd
---@overload fun(name: "json"): json
---@overload fun(name: "log"): log
---@overload fun(name: "options"): options
---@overload fun(name: "test"): test
---@overload fun(name: string): any
function require(name) end
