//! The messages to systemd, received by a socket of the test.

use crate::common;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use common::{RegistrarBuilder, SOON, Script, TestBed, eventually, get};
use tempfile::TempDir;

/// A service manager that only listens.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        let patience = Duration::from_millis(10);
        socket
            .set_read_timeout(Some(patience))
            .expect("a time limit can be set");
        Self { socket, directory }
    }

    fn start_under(&self, registrar: RegistrarBuilder) -> RegistrarBuilder {
        registrar.env("NOTIFY_SOCKET", self.directory.path().join("notify"))
    }

    /// Fills the socket, so that senders block until it is read again.
    fn stop_listening(&self) {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("it can be set");
        while sender
            .send_to(b"full", self.directory.path().join("notify"))
            .is_ok()
        {}
    }

    /// The next message, if there is one.
    fn told(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Waits for the message `what`, and returns all messages up to it.
    #[track_caller]
    fn wait_for(&self, what: &str) -> Vec<String> {
        let mut all = Vec::new();
        eventually(SOON, &format!("{what:?} for systemd"), || {
            all.extend(self.told());
            all.last().is_some_and(|last| last.contains(what))
        });
        all
    }
}

#[test]
fn it_is_ready_when_the_first_sync_is_in_etcd_and_not_before() {
    let bed = TestBed::new();
    bed.etcd.stop();
    let _web = bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish_all()
        .start();
    let manager = Manager::new();
    let registrar = manager.start_under(bed.registrar()).start();
    let before = manager.wait_for("STATUS=etcd: cannot reach etcd at");
    assert!(
        !before.iter().any(|told| told.contains("READY=1")),
        "{before:?}"
    );

    bed.etcd.start_again();
    // In one message, of which it is the end.
    let until = manager.wait_for("STATUS=in step with Docker");
    assert_eq!(bed.keys().len(), 4, "{until:?}");
    assert!(
        until.iter().any(|told| told.contains("READY=1")),
        "{until:?}"
    );

    bed.etcd.stop();
    manager.wait_for("STATUS=etcd: ");
    bed.etcd.start_again();
    let until = manager.wait_for("STATUS=in step with Docker");
    assert!(
        !until.iter().any(|told| told.contains("READY=1")),
        "{until:?}"
    );

    registrar.signal("TERM");
    manager.wait_for("STOPPING=1");
    assert!(registrar.wait(SOON).success());
}

#[test]
fn the_watchdog_is_fed_until_the_script_hangs() {
    let bed = TestBed::new();
    let script = Script::new(
        r#"
        local register = require "register"
        function register.service(container)
          -- One call of Lua's own library, which no time limit can end.
          if container.env.HANG then ("a"):rep(40):match(("a*"):rep(40) .. "b") end
          return "web"
        end
        return register
        "#,
    );
    let manager = Manager::new();
    let registrar = bed.registrar().flag("--script", script.path());
    let registrar = manager
        .start_under(registrar)
        .env("WATCHDOG_USEC", "2000000")
        .start();
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let _hangs = bed.container().env("HANG", "1").publish_all().start();
    eventually(SOON, "silence for longer than the watchdog waits", || {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(4) {
            if manager
                .told()
                .is_some_and(|told| told.contains("WATCHDOG=1"))
            {
                return false;
            }
        }
        true
    });
    registrar.kill9();
}

#[test]
fn a_service_manager_that_hangs_holds_up_nothing() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let manager = Manager::new();
    manager.stop_listening();
    let registrar = bed.registrar().flag("--ttl", TTL.to_string());
    let registrar = registrar.flag("--listen", "127.0.0.1:0");
    let registrar = manager
        .start_under(registrar)
        .env("WATCHDOG_USEC", "2000000")
        .start();
    eventually(SOON, "the keys", || bed.keys().len() == 4);
    let revision = bed.etcd.revision();
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(get(&registrar.address(), "/healthz").status, 200);
    assert_eq!(bed.etcd.revision(), revision, "the keys never went");
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");

    manager.stop_listening();
    let begun = Instant::now();
    assert!(registrar.terminate().success());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}
