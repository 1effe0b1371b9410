//! The harness of the live tests: a Docker daemon to start containers in, an etcd for each test, and the program.
//!
//! A test begins with [`TestBed::new`]. It names everything differently from other tests that run at the same time,
//! and removes everything when it goes out of scope, also when the test fails:
//!
//! ```ignore
//! let bed = TestBed::new();
//! let web = bed.container().env("SERVICE_NAME", "web").publish_all().start();
//! let registrar = bed.registrar().start();
//! eventually(SOON, "the keys of web", || bed.keys().len() == 4);
//! ```
//!
//! Nothing here sleeps for a fixed time: [`eventually`] polls a condition until a deadline.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test program includes the whole harness and uses a part of it"
)]

mod backend;
mod cable;
mod cluster;
mod container;
mod dockerd;
mod etcd;
mod fake_docker;
mod faults;
mod grpc_proxy;
mod history;
mod http;
mod image;
mod podman;
mod proxy;
mod recorder;
mod redis;
mod registrar;
mod service;
mod simulated;
mod versions;

pub use self::redis::{Redis, Sentinel};
pub use backend::{Backend, Load, UdpBackend, ask, ask_udp, free_port};
pub use cable::lay_cable;
pub use cluster::{cluster, endpoints};
pub use container::{BARE, Container, ContainerBuilder, WEB, docker, require_docker};
pub use dockerd::{Dockerd, as_root, is_root};
pub use etcd::{Etcd, KeyValue};
pub use fake_docker::{FakeDocker, Reply};
pub use faults::{
    FEW, Rng, assert_told_of, count, docker_of, docker_with_id, in_step, inspection, let_time_pass,
    summary, warnings,
};
pub use grpc_proxy::GrpcProxy;
pub use history::{Event, Kind, Watch};
pub use http::{Page, get};
pub use podman::Podman;
pub use proxy::{Mode, Proxy, the_docker};
pub use recorder::Recorder;
pub use registrar::{Output, Registrar, RegistrarBuilder};
pub use service::{Answer, Service};
pub use simulated::Simulated;
pub use versions::{
    ProxyDirectory, ProxyKind, ProxyProgram, envoys, etcds, haproxies, kill_processes, nginxes,
    path_with, processes, valkeys,
};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The deadline of steps that take milliseconds on an idle machine. It is long, so that a busy machine fails no test.
pub const SOON: Duration = Duration::from_secs(30);

/// The `--host-ip` of a [`TestBed`]'s registrar. It is reserved for documentation (RFC 5737).
pub const HOST_IP: &str = "192.0.2.1";

/// The label on everything that the tests make in Docker. Its value is different in each test.
const LABEL: &str = "docker-register-test";

/// The reason why a lock of the harness can be taken.
const UNPOISONED: &str = "no thread panics with the lock";

/// Polls `condition` until it holds.
///
/// # Panics
///
/// If it does not hold before the deadline; the message names `what`.
#[track_caller]
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(deadline, what, || condition().then_some(()));
}

/// Polls `attempt` until it gives a value, and returns that.
///
/// # Panics
///
/// If it gives none before the deadline; the message names `what`.
#[track_caller]
pub fn eventually_some<T>(
    deadline: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(
            start.elapsed() < deadline,
            "waited {deadline:?} in vain for {what}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// One test's name, its etcd, and everything that it makes in Docker under that name.
pub struct TestBed {
    /// Different in every test and every run; the value of the label of all containers and networks.
    pub name: String,
    /// The directory of this test's keys, such as `/t4242-1`.
    pub prefix: String,
    /// An etcd for this test alone, so that every revision is the test's.
    pub etcd: Etcd,
    /// Images to be removed with it.
    images: Mutex<Vec<String>>,
}

impl TestBed {
    /// Starts an etcd, and makes sure that Docker answers and has the images.
    ///
    /// # Panics
    ///
    /// With instructions if Docker, etcd or an image is missing.
    pub fn new() -> Self {
        require_docker();
        let name = unique_name();
        TestBed {
            prefix: format!("/{name}"),
            name,
            etcd: Etcd::start(),
            images: Mutex::default(),
        }
    }

    /// The filter, in Docker's syntax, for this test's containers.
    pub fn filter(&self) -> String {
        format!("label={}", self.label())
    }

    /// A container of the image [`WEB`], labelled and named for this test.
    pub fn container(&self) -> ContainerBuilder {
        self.container_of(WEB)
    }

    /// A container of an image, labelled and named for this test.
    pub fn container_of(&self, image: &str) -> ContainerBuilder {
        Container::of(image)
            .name(&unique_name())
            .arg("--label")
            .arg(&self.label())
    }

    /// Makes a network in Docker, and returns its name. It is removed with the test bed.
    pub fn network(&self) -> String {
        let name = unique_name();
        docker(&["network", "create", "--label", &self.label(), &name]);
        name
    }

    /// The program, with flags for this test's containers, etcd and prefix.
    pub fn registrar(&self) -> RegistrarBuilder {
        Registrar::command()
            .flag("--etcd", self.etcd.endpoint())
            .flag("--prefix", &self.prefix)
            .flag("--host-ip", HOST_IP)
            .flag("--instance", &self.name)
            .filter(&self.filter())
    }

    /// `discover`, with flags for this test's etcd and prefix, and files in `directory`. Start it with
    /// [`RegistrarBuilder::start_command`].
    pub fn discover(&self, directory: &Path) -> RegistrarBuilder {
        Registrar::command()
            .flag("--etcd", self.etcd.endpoint())
            .flag("--prefix", &self.prefix)
            .flag("--directory", directory)
            .flag("--set", "bind=127.0.0.1")
    }

    /// The program on one of several "hosts": it has this `address`, and sees the containers of
    /// [`TestBed::container_on`].
    pub fn registrar_on(&self, host: &str, address: &str) -> RegistrarBuilder {
        self.registrar()
            .flag("--instance", format!("{}-{host}", self.name))
            .flag("--host-ip", address)
            .filter(&format!("label=host={host}"))
    }

    /// A container of the image [`WEB`] with every port published, on one of several "hosts".
    pub fn container_on(&self, host: &str) -> ContainerBuilder {
        self.container().label("host", host).publish_all()
    }

    /// The program with a fake Docker, of which it sees all containers.
    pub fn registrar_of(&self, docker: &FakeDocker) -> RegistrarBuilder {
        Registrar::command()
            .flag("--etcd", self.etcd.endpoint())
            .flag("--prefix", &self.prefix)
            .flag("--host-ip", HOST_IP)
            .flag("--instance", &self.name)
            .env("DOCKER_HOST", docker.host())
    }

    /// The keys in etcd now, without the prefix and its slash: `web/1/port` → `8005`.
    pub fn keys(&self) -> BTreeMap<String, String> {
        self.below_prefix(self.etcd.get(&self.prefix))
    }

    /// As [`Etcd::states`], with keys as in [`TestBed::keys`].
    pub fn states(&self) -> Vec<(i64, BTreeMap<String, String>)> {
        let states = self.etcd.states(&self.prefix).into_iter();
        states
            .map(|(revision, keys)| (revision, self.below_prefix(keys)))
            .collect()
    }

    /// Waits until the keys are these and no others.
    ///
    /// # Panics
    ///
    /// If they are not before the deadline; the message has both.
    #[track_caller]
    pub fn wait_for_keys(&self, wanted: &BTreeMap<String, String>, deadline: Duration) {
        let start = Instant::now();
        loop {
            let keys = self.keys();
            if keys == *wanted {
                return;
            }
            assert!(
                start.elapsed() < deadline,
                "waited {deadline:?} in vain for the keys {wanted:#?}; there are {keys:#?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Checks every revision of etcd's history: no member ever existed without the `port` key of its directory.
    ///
    /// # Panics
    ///
    /// With the first revision at which one did.
    #[track_caller]
    pub fn assert_each_member_always_had_its_port(&self) {
        for (revision, keys) in self.states() {
            for key in keys.keys() {
                let port = port_beside(key);
                assert!(
                    keys.contains_key(&port),
                    "at revision {revision} there is {key} without {port}: {keys:#?}"
                );
            }
        }
    }

    /// Checks every revision of etcd's history: no `port` key ever existed without a member in its directory.
    ///
    /// # Panics
    ///
    /// With the first revision at which one did.
    #[track_caller]
    pub fn assert_each_port_always_had_a_member(&self) {
        for (revision, keys) in self.states() {
            for port in keys.keys().filter(|key| key.ends_with("/port")) {
                let mut others = keys.keys().filter(|key| *key != port);
                assert!(
                    others.any(|key| port_beside(key) == *port),
                    "at revision {revision} there is {port} without a member: {keys:#?}"
                );
            }
        }
    }

    /// The whole key that [`TestBed::keys`] gives as `key`.
    pub fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }

    fn below_prefix(&self, keys: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let shorten = |key: String| key[self.prefix.len()..].trim_start_matches('/').to_owned();
        keys.into_iter().map(|(k, v)| (shorten(k), v)).collect()
    }

    /// The label on everything that this test makes in Docker, as `NAME=VALUE`.
    pub fn label(&self) -> String {
        format!("{LABEL}={}", self.name)
    }
}

impl Default for TestBed {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        let filter = self.filter();
        container::remove_all(&["ps", "--all"], &["rm", "--force", "--volumes"], &filter);
        container::remove_all(&["network", "ls"], &["network", "rm"], &filter);
        for image in self.images.get_mut().into_iter().flatten() {
            let _ = Command::new("docker")
                .args(["rmi", "--force", image])
                .output();
        }
    }
}

/// A map of strings from pairs, to compare keys with.
pub fn map<K: Into<String>, V: Into<String>>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

/// The keys of a container of the image [`WEB`] that has every port published, as [`TestBed::keys`] gives them.
pub fn web_keys(service: &str, container: &Container, address: &str) -> BTreeMap<String, String> {
    let member = container.short_id();
    let mut keys = BTreeMap::new();
    for (index, port) in [(1, "8005"), (2, "8006")] {
        let host_port = container.host_port(&format!("{port}/tcp"));
        let directory = format!("{service}/{index}");
        keys.insert(
            format!("{directory}/{member}"),
            format!("{address}:{host_port}"),
        );
        keys.insert(format!("{directory}/port"), port.to_owned());
    }
    keys
}

pub fn joined<const N: usize>(maps: [&BTreeMap<String, String>; N]) -> BTreeMap<String, String> {
    maps.into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// The `port` key in the directory of a key.
fn port_beside(key: &str) -> String {
    let (directory, _) = key.rsplit_once('/').expect("a key is in a directory");
    format!("{directory}/port")
}

/// A policy's script, in its own directory.
pub struct Script {
    directory: TempDir,
}

impl Script {
    /// Writes `policy.lua`.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let script = Script { directory };
        std::fs::write(script.path(), text).expect("a script can be written");
        script
    }

    /// The path, for `--script`.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("policy.lua")
    }
}

/// Makes a named pipe: opening it blocks until another process opens the other end.
///
/// # Panics
///
/// If it cannot be made.
pub fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("`mkfifo` can be run").success(), "a named pipe");
}

/// A name that is unique on this machine, also among several runs.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let start = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    format!(
        "t{}-{:x}-{}",
        std::process::id(),
        start.subsec_nanos(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Sends a signal, such as `TERM`, to a process, by a shell, because unsafe code is forbidden here.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()])
        .status()
        .expect("`sh` can be run");
    assert!(status.success(), "cannot send {name} to process {pid}");
}
