//! Programs that read the keys: `HAProxy`, with a configuration rendered from the keys as by confd, forwards to the
//! members of the default layout.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

use common::{SOON, TestBed, eventually, in_step};

/// `HAProxy` with a configuration. It ends when it goes out of scope.
struct Haproxy {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One `listen` for `<service>/<n>`, with a server for each member. Docker-discover binds to the value of `port`; here
/// it is a port that is free.
fn render(keys: &BTreeMap<String, String>, directory: &str, port: u16) -> String {
    let mut config = format!(
        "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n\
         listen web\n  bind 127.0.0.1:{port}\n  balance roundrobin\n"
    );
    for (key, address) in keys {
        if let Some(member) = key.strip_prefix(directory)
            && member != "port"
        {
            writeln!(config, "  server {member} {address}").expect("a string takes it");
        }
    }
    config
}

impl Haproxy {
    fn start(bed: &TestBed, directory: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let files = tempfile::tempdir().expect("a temporary directory");
        let file = files.path().join("haproxy.cfg");
        fs::write(&file, render(&bed.keys(), directory, port)).expect("the configuration");
        let child = Command::new("haproxy")
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .spawn()
            .expect("`haproxy` can be run: `make test` installs it");
        let haproxy = Self {
            child,
            port,
            _directory: files,
        };
        eventually(SOON, "HAProxy to forward", || haproxy.get().is_some());
        haproxy
    }

    /// The backend's answer through the proxy.
    fn get(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some(body.trim().to_owned())
    }

    fn answers(&self) -> BTreeSet<String> {
        (0..6).filter_map(|_| self.get()).collect()
    }
}

#[test]
fn haproxy_forwards_to_all_members_of_the_default_layout() {
    let bed = TestBed::new();
    let web = || {
        bed.container()
            .env("SERVICE_NAME", "web")
            .publish_all()
            .start()
    };
    let (one, two) = (web(), web());
    let registrar = bed.registrar().flag("--host-ip", "127.0.0.1");
    let _registrar = in_step(&registrar);
    for (index, port) in [(1, "8005"), (2, "8006")] {
        let directory = format!("web/{index}/");
        assert_eq!(bed.keys()[&format!("{directory}port")], port);
        let haproxy = Haproxy::start(&bed, &directory);
        let both = [&one, &two].map(|container| format!("{} {port}", container.short_id()));
        assert_eq!(haproxy.answers(), BTreeSet::from(both));
    }
    two.stop();
    eventually(SOON, "the keys to go", || bed.keys().len() == 4);
    let haproxy = Haproxy::start(&bed, "web/1/");
    assert_eq!(
        haproxy.answers(),
        BTreeSet::from([format!("{} 8005", one.short_id())])
    );
}
