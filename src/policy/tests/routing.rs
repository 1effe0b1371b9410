//! A reading policy: what its functions tell of keys, and what it is told of the proxy.

use proptest::prelude::*;

use super::*;
use crate::routes::{Bound, Keys, Protocol, Routes};
use crate::store::{Change, Changes, Found, On};

/// Tells a service's port beside its member, and writes one file with what it knows.
const SCRIPT: &str = "local discover, etcd = require 'discover', require 'etcd'
    local options, proxy = require 'options', require 'proxy'
    local function locate(key, value)
      local service, member, port = key:match('^/b/([^/]+)/(.+:([^:]+))$')
      return { service = service, index = 1, member = member, address = value, port = port .. '/udp' }
    end
    local function listener(service)
      return { listen = '127.0.0.1:' .. service.port, servers = {} }
    end
    local function files(services)
      local words = { proxy.name, proxy.directory, proxy.socket, proxy.state_file, proxy.pid_file,
                      tostring(options.layout), services[1].port, services[1].protocol }
      return { name = 'f', text = table.concat(words, ' ') }
    end
    function discover.run()
      for services in etcd.services(locate) do proxy.sync(services, listener, files) end
    end
    return discover";

/// The file that the script makes of one key, and the addresses of the routes.
async fn routed(layout: Option<&str>) -> (String, Vec<Bound>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("site.lua");
    fs::write(&path, SCRIPT).expect("a file");
    let found = Found {
        key: "/b/dns/host:dns:53".into(),
        value: "10.0.0.1:32768".into(),
        on: On::Nothing,
        created: 1,
        revision: 1,
    };
    let mut keys = Keys::default();
    keys.replace(vec![found], 1);
    let options = RoutingOptions {
        layout: layout.map(str::to_owned),
        ..options()
    };
    let world = world(options, KeySource::Once(Arc::new(keys))).script(Some(path));
    let routes = world.routes();
    run(&world).await;
    let routes = routes.borrow().clone().expect("routes");
    (
        routes.files[0].text(),
        routes.addresses().into_iter().collect(),
    )
}

fn options() -> RoutingOptions {
    RoutingOptions {
        prefix: "/b".to_owned(),
        layout: None,
        set: Vec::new(),
        proxy: ProxyOptions {
            name: "haproxy".to_owned(),
            directory: "/d".to_owned(),
            socket: "/d/s".to_owned(),
            state_file: "/d/state".to_owned(),
            pid_file: "/d/pid".to_owned(),
        },
    }
}

/// A world in which every address is free.
fn world(options: RoutingOptions, source: KeySource) -> RoutingWorld {
    let owners: Owners = Rc::new(|claims| claims.iter().map(|_| Ok(())).collect());
    RoutingWorld::new(options, source, owners)
}

/// Runs the world's policy until its source ends.
async fn run(world: &RoutingWorld) {
    let script = world.load().unwrap_or_else(|failure| panic!("{failure}"));
    let ran = script.run().await;
    ran.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn a_policy_is_told_of_the_proxy_and_may_tell_a_port_beside_a_member() {
    let (text, addresses) = routed(Some("registrator")).await;
    assert_eq!(text, "haproxy /d /d/s /d/state /d/pid registrator 53 udp");
    let bound = Bound {
        protocol: Protocol::Udp,
        address: ([127, 0, 0, 1], 53).into(),
    };
    assert_eq!(addresses, [bound]);
    let (text, _) = routed(None).await;
    assert_eq!(text, "haproxy /d /d/s /d/state /d/pid nil 53 udp");
}

/// A key, and its new value if it is put.
type KeyChange = (String, Option<String>);

/// A key of a few services: a member, or the host name.
fn any_change() -> impl Strategy<Value = KeyChange> {
    let any_key = (0..4_u8, 0..4_u8);
    let any_value = prop::option::weighted(0.7, 1..4_u8);
    (any_key, any_value).prop_map(|((service, member), value)| {
        let (name, value) = match member {
            0 => ("http".to_owned(), value.map(|it| format!("{it}.example"))),
            _ => (
                format!("m{member}"),
                value.map(|it| format!("10.0.0.{it}:80")),
            ),
        };
        (format!("/b/s{service}/1/{name}"), value)
    })
}

/// The changes of one revision.
fn changes(revision: i64, changes: Vec<KeyChange>) -> Changes {
    let changes = changes.into_iter().map(|(key, value)| match value {
        Some(value) => Change::Put(Found {
            key: key.into(),
            value: value.into(),
            on: On::Nothing,
            created: revision,
            revision,
        }),
        None => Change::Delete(key.into()),
    });
    Changes {
        revision,
        changes: changes.collect(),
    }
}

/// Shows the default policy one moment after the other. Each must have the routes that it makes of that moment alone.
async fn follow(moments: Vec<Vec<KeyChange>>) {
    let sender = watch::Sender::new(None);
    let living = world(options(), KeySource::Live(sender.subscribe()));
    let mut routes = living.routes();
    let compare = async {
        let ports = (0..4_u8).map(|it| (format!("/b/s{it}/1/port"), Some(format!("80{it}"))));
        let ports: Vec<KeyChange> = ports.collect();
        let moments = std::iter::once(ports).chain(moments);
        let mut keys = Keys::default();
        for (revision, moment) in (1..).zip(moments) {
            keys.change(changes(revision, moment));
            let now = Arc::new(keys.clone());
            sender.send_replace(Some(Arc::clone(&now)));
            routes.changed().await.expect("routes");
            let once = world(options(), KeySource::Once(now));
            run(&once).await;
            let [got, expected]: [Option<Arc<Routes>>; 2] =
                [&routes, &once.routes()].map(|routes| routes.borrow().clone());
            assert_eq!(got, expected);
        }
        drop(sender);
    };
    tokio::join!(run(&living), compare);
}

proptest! {
    // Each moment loads a script.
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_make_the_same_routes_as_all_keys_do(
        moments in prop::collection::vec(prop::collection::vec(any_change(), 0..4), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(follow(moments));
    }
}
