//! An etcd process for one unit test. `tests/common` has the one for the other tests, which the library cannot use.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Connection, EtcdStore, Settings};
use crate::store::conformance::Server;

/// The attempts to start on free ports, because another program may take them before etcd does.
const ATTEMPTS: usize = 10;
/// The longest time to wait for anything: long enough that only a broken etcd fails.
pub const SOON: Duration = Duration::from_secs(30);
/// The time limit of a call in a test.
const LIMIT: Duration = Duration::from_secs(10);

/// An etcd with its own directory and ports. It is killed on drop.
pub struct Process {
    child: Child,
    endpoint: String,
    /// The address for other members.
    peer: String,
    directory: TempDir,
}

impl Process {
    /// Starts an etcd and waits until it answers. None if etcd is not installed. In CI it panics then, because no test
    /// may be skipped there.
    pub async fn start() -> Option<Self> {
        for _ in 0..ATTEMPTS {
            let mut process = match Self::spawn() {
                Ok(process) => process,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    assert!(std::env::var_os("CI").is_none(), "etcd is missing");
                    eprintln!("passed over: etcd is missing");
                    return None;
                }
                Err(error) => panic!("etcd cannot be started: {error}"),
            };
            if process.answers().await {
                return Some(process);
            }
        }
        panic!("etcd found no free port in {ATTEMPTS} attempts");
    }

    pub fn settings(&self) -> Settings {
        Settings {
            endpoints: vec![self.endpoint.clone()],
            ..Settings::default()
        }
    }

    pub fn connect(&self) -> Connection {
        Connection::new(self.settings(), LIMIT)
    }

    pub fn store(&self) -> EtcdStore {
        EtcdStore::new(self.settings(), LIMIT)
    }

    /// Freezes it: connections stay open and get no answer.
    pub fn freeze(&self) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-STOP", &pid]).status();
        assert!(killed.expect("kill is there").success());
    }

    fn spawn() -> std::io::Result<Self> {
        let directory = tempfile::tempdir()?;
        // Both are held at once, so that they differ.
        let ports = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let [endpoint, peer] = [ports[0].local_addr()?, ports[1].local_addr()?];
        drop(ports);
        let (endpoint, peer) = (endpoint.to_string(), peer.to_string());
        Ok(Self {
            child: run(&endpoint, &peer, directory.path())?,
            endpoint,
            peer,
            directory,
        })
    }

    /// Waits until it answers. False if it ended because a port was taken.
    async fn answers(&mut self) -> bool {
        let log = self.directory.path().join("log");
        let log = || fs::read_to_string(&log).unwrap_or_default();
        let begun = Instant::now();
        let mut connection = self.connect();
        connection.limit_calls(Duration::from_secs(1));
        while connection.get("/").await.is_err() {
            if self.child.try_wait().expect("a child").is_some() {
                let log = log();
                let is_taken = log.contains("address already in use");
                assert!(is_taken, "etcd does not start:\n{log}");
                return false;
            }
            assert!(begun.elapsed() < SOON, "etcd does not answer:\n{}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

fn run(endpoint: &str, peer: &str, directory: &Path) -> std::io::Result<Child> {
    let log = File::create(directory.join("log"))?;
    let (client, peer) = (format!("http://{endpoint}"), format!("http://{peer}"));
    Command::new("etcd")
        .args(["--name", "test", "--data-dir"])
        .arg(directory.join("data"))
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("test={peer}")])
        // A quick election also allows leases of one second, where the defaults allow two.
        .args(["--heartbeat-interval", "10", "--election-timeout", "100"])
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

impl Server for Process {
    async fn restart(&mut self, down: Duration) {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
        tokio::time::sleep(down).await;
        let child = run(&self.endpoint, &self.peer, self.directory.path());
        self.child = child.expect("it has run before");
        assert!(self.answers().await, "another program took its port");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
