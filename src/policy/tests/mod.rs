//! A policy and the bindings, as its author meets them.

mod fuzz;
mod types;

use std::fs;

use serde_json::{Value as Json, json};

use super::*;
use crate::container::read_saved;
use crate::store::etcd::Access;

/// A container that runs and publishes one port.
fn web(name: &str) -> Json {
    json!({
        "Id": format!("{name:0<64}"),
        "Name": format!("/{name}"),
        "Created": "2026-01-01T00:00:00Z",
        "Image": "sha256:00",
        "Config": { "Image": "team/web:1", "ExposedPorts": { "80/tcp": {} }, "Env": ["COLOR=blue"],
                    "Labels": { "team": "red" }, "Hostname": "inside" },
        "State": { "Status": "running", "Running": true },
        "NetworkSettings": {
            "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "32768" }] },
            "Networks": { "bridge": { "IPAddress": "172.17.0.2", "Aliases": ["www"] } } },
    })
}

fn snapshot(containers: &[Json]) -> Arc<Snapshot> {
    let containers = read_saved(&json!(containers).to_string()).expect("containers");
    Arc::new(Snapshot::of(containers.into_iter().collect()))
}

/// A site's directory with a script, and what its state works with.
struct Site {
    directory: tempfile::TempDir,
    world: World,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
}

impl Site {
    fn new(containers: &[Json]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (sender, wanted) = watch::channel(None);
        let (snapshots, _) = watch::channel(None);
        let world = World {
            condition: Condition::default(),
            errors: Counter::default(),
            path: Some(directory.path().join("site.lua")),
            options: Options {
                prefix: "/backends".to_owned(),
                ttl: 60,
                host_ip: "10.0.0.1".to_owned(),
                instance: String::new(),
                set: vec![("color".to_owned(), "green".to_owned())],
            },
            source: Source::Once(snapshot(containers)),
            reader: crate::register::run::reader(
                Access {
                    endpoints: vec!["127.0.0.1:1".to_owned()],
                    tls: None,
                    user: None,
                },
                60,
            ),
            wanted: sender,
            report: Report::Nothing,
            verdicts: Rc::default(),
        };
        Self {
            directory,
            world,
            wanted,
            snapshots,
        }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.directory.path().join(file), text).expect("the site's directory");
    }

    fn load(&self, script: &str) -> Result<Script, Failure> {
        self.write("site.lua", script);
        Script::load(self.world.clone())
    }

    async fn run(&self, script: &str) -> Result<(), Failure> {
        self.load(script)?.run().await
    }

    /// A failure as it is shown, without the directory.
    fn shown(&self, failure: &Failure) -> String {
        let directory = format!("{}/", self.directory.path().display());
        failure.to_string().replace(&directory, "")
    }

    fn why_not_loaded(&self, script: &str) -> String {
        match self.load(script) {
            Ok(_) => panic!("it loads: {script}"),
            Err(failure) => self.shown(&failure),
        }
    }

    /// The keys and values that are wanted, sorted.
    fn keys(&self) -> Vec<String> {
        let wanted = self.wanted.borrow().clone().expect("a call of etcd.sync");
        let entries = wanted.claims.iter().flat_map(|claim| claim.entries.iter());
        let mut keys: Vec<String> = entries
            .map(|entry| format!("{} {}", entry.key, entry.value))
            .collect();
        keys.sort();
        keys
    }

    /// Why the policy failed for the first container that it failed for.
    fn failure(&self) -> String {
        let verdicts = self.world.verdicts.borrow();
        let failure = verdicts
            .all()
            .into_iter()
            .find_map(|verdict| verdict.failure.clone());
        self.shown(&failure.expect("a failure"))
    }
}

/// Maps one container with a script's `entries` of this body, and returns why that fails.
async fn failure_of(body: &str) -> String {
    let site = Site::new(&[web("a")]);
    let script = format!(
        "local register = require 'register'\nfunction register.entries(container)\n{body}\nend\nreturn register"
    );
    site.run(&script).await.expect("the run");
    site.failure()
}

/// Runs a check that is written in Lua in a policy function.
async fn holds(check: &str) {
    let site = Site::new(&[web("a")]);
    let script = format!(
        "local register = require 'register'\nfunction register.entries(container)\n{check}\nreturn {{}}\nend\n\
         return register"
    );
    site.run(&script).await.expect("the run");
    let verdicts = site.world.verdicts.borrow();
    let failure = verdicts.all()[0]
        .failure
        .as_ref()
        .map(|failure| site.shown(failure));
    assert_eq!(failure, None, "{check}");
}

#[tokio::test]
async fn the_bundled_policy_makes_the_layout() {
    let mut site = Site::new(&[web("a"), web("b")]);
    site.world.path = None;
    Script::load(site.world.clone())
        .expect("it loads")
        .run()
        .await
        .expect("it runs");
    let keys = [
        "/backends/web/1/a00000000000 10.0.0.1:32768",
        "/backends/web/1/b00000000000 10.0.0.1:32768",
        "/backends/web/1/port 80",
        "/backends/web/1/port 80",
    ];
    assert_eq!(site.keys(), keys);
}

#[tokio::test]
async fn a_site_overrides_one_decision_and_the_others_see_it() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'register'
        register.ttl = 30
        register.prefix = '/x'
        function register.service(container, port) return container.labels.team end
        return register";
    site.run(script).await.expect("it runs");
    assert_eq!(
        site.keys(),
        ["/x/red/1/a00000000000 10.0.0.1:32768", "/x/red/1/port 80"]
    );
    let wanted = site.wanted.borrow().clone().expect("wanted");
    let mut entries = wanted.claims.iter().flat_map(|claim| claim.entries.iter());
    assert!(entries.all(|entry| entry.ttl == 30));
}

#[tokio::test]
async fn a_container_has_what_the_api_says() {
    holds(
        "assert(container.id == 'a' .. ('0'):rep(63) and container.short_id == 'a00000000000')
        assert(container.name == 'a' and container.hostname == 'inside')
        assert(container.image.reference == 'team/web:1' and container.image.repository == 'team/web')
        assert(container.image.name == 'web' and container.image.tag == '1' and container.image.registry == nil)
        assert(container.labels.team == 'red' and container.labels.nothing == nil)
        assert(container.env.COLOR == 'blue')
        assert(container.status == 'running' and container.health == 'none' and container.stopping == false)
        local port = container.ports[1]
        assert(#container.ports == 1 and port.port == 80 and port.protocol == 'tcp' and port.index == 1)
        assert(port.host_ip == '0.0.0.0' and port.host_port == 32768 and port.bindings[1].port == 32768)
        assert(container.networks.bridge.ip == '172.17.0.2' and container.networks.bridge.ip6 == nil)
        assert(container.networks.bridge.aliases[1] == 'www')
        assert(container.created == '2026-01-01T00:00:00Z')
        assert(container.inspect.Config.Labels.team == 'red')
        local fields = 0
        for field, value in pairs(container) do assert(type(field) == 'string') fields = fields + 1 end
        assert(fields == 16, fields)
        for name, value in pairs(container.labels) do assert(name == 'team' and value == 'red') end
        assert(next(container.env) == 'COLOR' and next({}) == nil)
        local options = require 'options'
        assert(options.color == 'green' and options.ttl == 60 and options.host_ip == '10.0.0.1')",
    )
    .await;
}

#[tokio::test]
async fn nothing_that_a_policy_is_given_can_be_changed() {
    for change in [
        "container.name = 'x'",
        "container.labels.team = 'x'",
        "container.ports[2] = {}",
        "container.ports[1].port = 1",
        "container.inspect.Config.Labels.team = 'x'",
        "container.networks.bridge.aliases[1] = 'x'",
        "rawset(container.labels, 'team', 'x')",
        "rawset(container, 'name', 'x')",
        "table.insert(container.ports, {})",
        "setmetatable(container, {})",
        "setmetatable(container.labels, nil)",
        "getmetatable(container.labels).__index = {}",
        "require('options').ttl = 1",
        "local _, inner = pairs(container.labels) inner.team = 'x'",
    ] {
        let check = format!(
            "local ok = pcall(function() {change} end)
            assert(not ok and container.labels.team == 'red' and container.name == 'a')"
        );
        holds(&check).await;
    }
}

#[tokio::test]
async fn a_misspelt_field_is_an_error_that_names_it() {
    assert_eq!(
        failure_of("if container.helth == 'healthy' then return {} end").await,
        "a container has no field `helth`\n  at site.lua:3 in register.entries"
    );
    assert_eq!(
        failure_of("return { container.ports[1].prot }").await,
        "a port has no field `prot`\n  at site.lua:3 in register.entries"
    );
}

#[tokio::test]
async fn json_is_the_same_text_every_time() {
    holds(
        "local json = require 'json'
        assert(json.encode({ b = 1, a = { 1, 'x', true }, c = json.null }) == '{\"a\":[1,\"x\",true],\"b\":1,\"c\":null}')
        assert(json.encode({}) == '{}' and json.encode(1.5) == '1.5')
        assert(json.encode(container.labels) == '{\"team\":\"red\"}')
        assert(json.encode(container):find('\"name\":\"a\"', 1, true))
        assert(json.decode('{\"a\":[1,null]}').a[2] == json.null)
        local loop = {} loop[1] = loop
        assert(not pcall(json.encode, loop) and not pcall(json.encode, 0/0) and not pcall(json.encode, print))
        assert(not pcall(json.decode, '{'))",
    )
    .await;
}

#[tokio::test]
async fn entries_of_a_wrong_shape_are_refused_by_name() {
    for (body, message) in [
        (
            "return nil",
            "it returned nil; return a list of entries, `{}` for none",
        ),
        (
            "return 3",
            "it returned a number; return a list of entries, `{}` for none",
        ),
        (
            "return { key = '/a', value = 'b' }",
            "it returned one entry and not a list; return a list of entries, `{}` for none: `{ entry }`",
        ),
        (
            "return { web = {} }",
            "it returned a table with the field `web`; return a list of entries, `{}` for none",
        ),
        (
            "return { [1] = { key = '/a', value = 'b' }, [7] = { key = '/c', value = 'd' } }",
            "its list of entries has holes; return a list of entries, `{}` for none",
        ),
        (
            "return { 'x' }",
            "entry 1 is a string; an entry is a table with `key` and `value`",
        ),
        ("return { { value = 'b' } }", "entry 1 has no `key`"),
        ("return { { key = '/a' } }", "entry 1 has no `value`"),
        (
            "return { { key = '/a', vlaue = 'b' } }",
            "entry 1 has the unknown field `vlaue`; an entry has `key`, `value`, `ttl` and `shared`",
        ),
        (
            "return { { key = '/a', value = {} } }",
            "entry 1: `value` is a table; it is a string",
        ),
        (
            "return { { key = '/a', value = '\\xff' } }",
            "entry 1: `value` is not UTF-8: `\u{fffd}`",
        ),
        (
            "return { { key = '/a', value = 'b', ttl = '60' } }",
            "entry 1: `ttl` is a string; it is a whole number of seconds from 1 to 86400",
        ),
        (
            "return { { key = '/a', value = 'b', ttl = 0.5 } }",
            "entry 1: `ttl` is 0.5; it is a whole number of seconds from 1 to 86400",
        ),
        (
            "return { { key = '/a', value = 'b', ttl = 0 } }",
            "entry 1: `ttl` is 0; it is a whole number of seconds from 1 to 86400",
        ),
        (
            "return { { key = '/a', value = 'b', shared = 1 } }",
            "entry 1: `shared` is a number; it is true or false",
        ),
        (
            "return { { key = '/a//b', value = 'c' } }",
            "entry 1: segment 2 of the key `/a//b` is empty",
        ),
        (
            "return { { key = '/a', value = 'b' }, { key = '/a', value = 'c' } }",
            "entries 1 and 2 have one key, `/a`, and differ",
        ),
    ] {
        let whole = format!("{message}\n  at site.lua:2 in register.entries");
        assert_eq!(failure_of(body).await, whole, "{body}");
    }
}

#[tokio::test]
async fn numbers_are_taken_as_their_decimal_digits() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'register'
        function register.entries(container)
          return { { key = '/a', value = 8005 }, { key = '/b', value = 16010 / 2, ttl = 60 / 2 },
                   { key = '/a', value = 8005 } }
        end
        return register";
    site.run(script).await.expect("it runs");
    assert_eq!(site.keys(), ["/a 8005", "/b 8005"]);
}

#[tokio::test]
async fn errors_of_a_policy_say_what_and_where() {
    for (body, message) in [
        (
            "error('label it')",
            "label it\n  at site.lua:3 in register.entries",
        ),
        (
            "local x = nil + 1",
            "attempt to perform arithmetic on a nil value\n  at site.lua:3 in register.entries",
        ),
        (
            "error({ code = 1 })",
            "`error` was called with a table instead of a message\n  at site.lua:3 in register.entries",
        ),
        (
            "error()",
            "`error` was called without a message\n  at site.lua:3 in register.entries",
        ),
        (
            "local function f() return f() + 1 end f()",
            "it needs more than the 64 MiB of memory that a script may have, or calls itself without end\n  \
             at site.lua:2 in register.entries",
        ),
        (
            "while true do end",
            "it took longer than a second, and was stopped\n  at site.lua:3 in register.entries",
        ),
        (
            "while true do pcall(function() while true do end end) end",
            "it took longer than a second, and was stopped\n  at site.lua:3 in register.entries",
        ),
        (
            "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
            "it needs more than the 64 MiB of memory that a script may have, or calls itself without end\n  \
             at site.lua:2 in register.entries",
        ),
        (
            "require('docker').watch()",
            "`docker.watch` waits, so it cannot be called in a policy function, which only says what should be; \
             call it in `run`\n  at site.lua:3 in register.entries",
        ),
        (
            "require('etcd').get('/x')",
            "`etcd.get` waits, so it cannot be called in a policy function, which only says what should be; \
             call it in `run`\n  at site.lua:3 in register.entries",
        ),
        (
            "return { { key = require('etcd').key('..'), value = '' } }",
            "segment 1 of the key is `..`\n  at site.lua:3 in register.entries",
        ),
    ] {
        assert_eq!(failure_of(body).await, message, "{body}");
    }
}

#[test]
fn a_script_that_cannot_be_a_policy_is_refused_when_it_loads() {
    let site = Site::new(&[]);
    site.write("circle.lua", "return require 'site'");
    site.write("two.lua", "require 'three'");
    site.write("three.lua", "require 'two'");
    for (script, message) in [
        (
            "local x = = 1",
            "unexpected symbol near '='\n  at site.lua:1",
        ),
        (
            "",
            "`site.lua` returned nothing and not a policy; end it with `return register`",
        ),
        (
            "return 3",
            "`site.lua` returned integer and not a policy; end it with `return register`",
        ),
        (
            "return {}",
            "`site.lua` returned a table whose `run` is nil and not a function; \
             begin with `local register = require \"register\"`",
        ),
        ("\nerror('no')", "no\n  at site.lua:2"),
        (
            "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
            "it needs more than the 64 MiB of memory that a script may have, or calls itself without end\n  at site.lua",
        ),
        (
            "while true do end",
            "it took longer than a second, and was stopped\n  at site.lua:1",
        ),
        (
            "local r = require 'register'\nr.nmae = function() end",
            "register has no decision `nmae`\n  at site.lua:2",
        ),
        (
            "local r = require 'register'\nr.service = 'web'",
            "register.service is a function, not a string\n  at site.lua:2",
        ),
        (
            "require('docker').watch()",
            "`docker.watch` waits, so it cannot be called while the script loads; call it in `run`\n  at site.lua:1",
        ),
        (
            "require 'two'",
            "`two` requires `three` requires `two`: they go in a circle\n  at three.lua:1",
        ),
        (
            "require '../secret'",
            "`require \"../secret\"`: a module's name has letters, digits, `_` and `-`, and dots for directories\n  \
             at site.lua:1",
        ),
    ] {
        assert_eq!(site.why_not_loaded(script), message, "{script}");
    }
    assert_eq!(
        site.why_not_loaded("require 'nothing'"),
        "there is no module `nothing`: cannot read `nothing.lua`: No such file or directory (os error 2); \
         there are docker, etcd, json, log, options and the bundled policies register, coredns, docker_discover, \
         go_zero, grpc, registrator, traefik\n  at site.lua:1"
    );
}

#[test]
fn a_site_has_modules_of_its_own() {
    let site = Site::new(&[]);
    site.write("names.lua", "return { of = function() return 'x' end }");
    fs::create_dir(site.directory.path().join("lib")).expect("a directory");
    site.write("lib/deep.lua", "return 7");
    let script = "assert(require('names').of() == 'x' and require 'lib.deep' == 7)
        assert(require 'names' == require 'names')
        return require 'register'";
    assert!(site.load(script).is_ok());
}

#[test]
fn the_sandbox_has_no_way_out() {
    let site = Site::new(&[]);
    let script = "for _, name in ipairs { 'io', 'debug', 'package', 'dofile', 'loadfile', 'collectgarbage' } do
          assert(_G[name] == nil, name)
        end
        for _, name in ipairs { 'execute', 'exit', 'remove', 'rename', 'tmpname', 'setlocale' } do
          assert(os[name] == nil, name)
        end
        assert(string.dump == nil)
        assert(load('return 1')() == 1 and load('return x', 'n', 't', { x = 2 })() == 2)
        assert(load('\\27Lua', 'n', 'b') == nil and load('\\27Lua', 'n') == nil)
        assert(type(os.time()) == 'number' and type(os.date()) == 'string' and os.getenv('PATH'))
        return require 'register'";
    if let Err(failure) = site.load(script) {
        panic!("{failure}");
    }
}

#[tokio::test]
async fn a_container_that_has_not_changed_is_not_mapped_again() {
    let mut site = Site::new(&[]);
    site.world.source = Source::Live(site.snapshots.subscribe());
    let script = "local register, log = require 'register', require 'log'
        local docker, etcd = require 'docker', require 'etcd'
        local calls, last = 0, nil
        function register.entries(container)
          calls = calls + 1
          return { { key = '/' .. container.name, value = calls } }
        end
        function register.run()
          for containers in docker.watch() do
            assert(last == nil or rawequal(last, containers[1]))
            last = containers[1]
            etcd.sync(containers, register.entries)
            if #containers == 2 then return end
          end
        end
        return register";
    let script = site
        .load(script)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let first = snapshot(&[web("a")]);
    let second = snapshot(&[web("b")]);
    let both = first.containers.iter().chain(second.containers.iter());
    let both = Snapshot::of(both.cloned().collect());
    site.snapshots.send_replace(Some(first));
    let (ran, ()) = tokio::join!(script.run(), async {
        while site.wanted.borrow().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(site.keys(), ["/a 1"]);
        site.snapshots.send_replace(Some(Arc::new(both)));
    });
    ran.expect("it runs");
    assert_eq!(site.keys(), ["/a 1", "/b 2"]);
}

#[tokio::test]
async fn a_container_whose_call_fails_keeps_its_last_keys_through_a_reload_too() {
    let mut site = Site::new(&[web("a"), web("b")]);
    let good = "local register = require 'register'
        function register.entries(c) return { { key = '/' .. c.name, value = 1 } } end
        return register";
    site.run(good).await.expect("it runs");
    let failing = "local register = require 'register'
        function register.entries(c)
          if c.name == 'b' then error('no') end
          return { { key = '/' .. c.name, value = 2 } }
        end
        return register";
    site.run(failing).await.expect("it runs");
    assert_eq!(site.keys(), ["/a 2", "/b 1"]);
    assert!(
        site.wanted
            .borrow()
            .as_ref()
            .is_some_and(|wanted| wanted.protected.is_empty())
    );
    // Of one that has never had any it is said what tells its keys, so that none is deleted on its account.
    site.world.verdicts = Rc::default();
    site.run(failing).await.expect("it runs");
    assert_eq!(site.keys(), ["/a 2"]);
    assert!(
        site.wanted
            .borrow()
            .as_ref()
            .is_some_and(|wanted| wanted.protected.contains(&"b".to_owned()))
    );
}

#[tokio::test]
async fn one_snapshot_is_synced_once_with_its_own_containers() {
    let site = Site::new(&[web("a")]);
    for (body, message) in [
        (
            "etcd.sync(containers, register.entries) etcd.sync(containers, register.entries)",
            "etcd.sync was called twice for one snapshot, and the second would undo the first; \
             join the two lists of entries in one function",
        ),
        (
            "containers[1] = nil containers[2] = 1 etcd.sync(containers, register.entries)",
            "etcd.sync: the list of containers has holes, and what comes after one would be lost; \
             build a new list instead",
        ),
        (
            "while true do end",
            "it took longer than a second, and was stopped",
        ),
        (
            "setmetatable({}, { __gc = function() while true do end end })",
            "a metatable cannot have `__gc` here",
        ),
        // What a script says of equality is not asked: it might loop, or lie.
        (
            "local equal = { __eq = function() return true end }
             containers[1] = setmetatable({}, equal) etcd.sync(containers, register.entries)",
            "etcd.sync: item 1 of the list is no container of the newest snapshot",
        ),
        (
            "etcd.sync({ {} }, register.entries)",
            "etcd.sync: item 1 of the list is no container of the newest snapshot",
        ),
        (
            "etcd.sync(register.entries)",
            "etcd.sync takes the list of containers and the function that makes the entries of one",
        ),
    ] {
        let script = format!(
            "local register, docker, etcd = require 'register', require 'docker', require 'etcd'
            function register.run()
              for containers in docker.watch() do
                {body}
              end
            end
            return register"
        );
        let failure = site.run(&script).await.expect_err("it fails");
        assert_eq!(
            site.shown(&failure),
            format!(
                "{message}\n  at site.lua:{} in register.run",
                4 + body.matches('\n').count()
            )
        );
    }
}
