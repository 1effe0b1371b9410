//! A reading policy: what its functions tell of keys, and what it is told of the proxy.

use super::*;
use crate::routes::{Bound, Keys, Protocol};
use crate::store::{Found, On};

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
    let owners: Owners = Rc::new(|claims| claims.iter().map(|_| Ok(())).collect());
    let options = RoutingOptions {
        prefix: "/b".to_owned(),
        layout: layout.map(str::to_owned),
        set: Vec::new(),
        proxy: ProxyOptions {
            name: "haproxy".to_owned(),
            directory: "/d".to_owned(),
            socket: "/d/s".to_owned(),
            state_file: "/d/state".to_owned(),
            pid_file: "/d/pid".to_owned(),
        },
    };
    let world =
        RoutingWorld::new(options, KeySource::Once(Arc::new(keys)), owners).script(Some(path));
    let routes = world.routes();
    let script = world.load().unwrap_or_else(|failure| panic!("{failure}"));
    let ran = script.run().await;
    ran.unwrap_or_else(|failure| panic!("{failure}"));
    let routes = routes.borrow().clone().expect("routes");
    (
        routes.files[0].text(),
        routes.addresses().into_iter().collect(),
    )
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
