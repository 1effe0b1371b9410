//! An etcd for one test, and the test's own client of it.

use super::{SOON, UNPOISONED, eventually, signal};
use etcd_client::{
    Client, Error, GetOptions, LeaseGrantOptions, LeaseStatus, LeaseTimeToLiveOptions, PutOptions,
    Txn, TxnOp,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The timeout of a call: far more than it needs, so that only an etcd that is down fails a test.
const CALL: Duration = Duration::from_secs(10);

const PROGRAM: &str = "etcd";

/// The number of tries to find free ports, because another program may take them before etcd does.
const ATTEMPTS: usize = 10;

/// An etcd with its own directory and ports. Both end when it goes out of scope.
///
/// Its methods panic if it does not answer.
pub struct Etcd {
    program: PathBuf,
    directory: TempDir,
    client_port: u16,
    peer_port: u16,
    /// The endpoint with TLS, beside the one without.
    tls_port: Option<u16>,
    /// Further flags of etcd. Of two with one name the later counts.
    flags: Vec<String>,
    process: Mutex<Option<Child>>,
    client: Mutex<Option<Client>>,
    pub(super) runtime: Runtime,
}

/// A key's value, lease and revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub value: String,
    /// 0 for none.
    pub lease: i64,
    pub create_revision: i64,
    pub mod_revision: i64,
}

impl Etcd {
    /// Starts an etcd and waits until it answers.
    ///
    /// # Panics
    ///
    /// If there is none to start, or it does not answer; the message ends with its log.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts another program than the one in `PATH`, such as one of [`super::etcds`].
    ///
    /// # Panics
    ///
    /// As [`Etcd::start`] does.
    pub fn start_program(program: &Path) -> Self {
        Self::start_some(program, &[], false)
    }

    /// Starts an etcd with further flags and waits until it answers.
    ///
    /// # Panics
    ///
    /// As [`Etcd::start`] does.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::start_some(Path::new(PROGRAM), flags, false)
    }

    /// Starts an etcd that also has an endpoint with TLS, with the certificate in the flags. The test itself uses the
    /// other endpoint.
    ///
    /// # Panics
    ///
    /// As [`Etcd::start`] does.
    pub fn start_with_tls(flags: &[&str]) -> Self {
        Self::start_some(Path::new(PROGRAM), flags, true)
    }

    fn start_some(program: &Path, flags: &[&str], tls: bool) -> Self {
        for _ in 0..ATTEMPTS {
            let mut etcd = Self::prepare();
            program.clone_into(&mut etcd.program);
            etcd.flags = flags.iter().map(ToString::to_string).collect();
            if tls {
                etcd.tls_port = Some(free_ports().0);
                let both = format!("http://{},https://{}", etcd.endpoint(), etcd.tls_endpoint());
                etcd.flags.extend(["--listen-client-urls".to_owned(), both]);
            }
            if etcd.spawn() {
                return etcd;
            }
        }
        panic!("etcd found no free port in {ATTEMPTS} attempts");
    }

    /// An etcd with a directory and free ports, which is not started yet.
    pub(super) fn prepare() -> Self {
        let (client_port, peer_port) = free_ports();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a tokio runtime can be made");
        Etcd {
            program: PROGRAM.into(),
            directory: tempfile::Builder::new()
                .prefix("docker-register-etcd-")
                .tempdir()
                .expect("a temporary directory can be made"),
            client_port,
            peer_port,
            tls_port: None,
            flags: Vec::new(),
            process: Mutex::new(None),
            client: Mutex::new(None),
            runtime,
        }
    }

    /// The address for the other members of its cluster.
    pub(super) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Makes it a member of a cluster; `members` has the form of etcd's flag `--initial-cluster`.
    pub(super) fn join(&mut self, name: &str, members: &str) {
        // Members answer each other through a scheduler that is not idle: the defaults hold elections seldom.
        let flags = ["--name", name, "--initial-cluster", members];
        let pace = ["--heartbeat-interval", "100", "--election-timeout", "1000"];
        let flags = flags.iter().chain(&pace);
        self.flags.extend(flags.map(ToString::to_string));
    }

    /// `127.0.0.1:<port>`, the same after [`Etcd::start_again`].
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// `127.0.0.1:<port>` of the endpoint with TLS.
    ///
    /// # Panics
    ///
    /// If it was not started by [`Etcd::start_with_tls`].
    pub fn tls_endpoint(&self) -> String {
        let port = self.tls_port.expect("this etcd speaks TLS");
        format!("127.0.0.1:{port}")
    }

    /// Stops it as an operator does.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// Kills it, as a crash would. Acknowledged writes are on disk.
    pub fn kill9(&self) {
        self.end("KILL");
    }

    /// Starts it again after [`Etcd::stop`] or [`Etcd::kill9`], with the same data and ports.
    pub fn start_again(&self) {
        assert!(self.process().is_none(), "etcd runs already");
        // Connections of the last process may still hold the port.
        eventually(SOON, "etcd to start again", || self.spawn());
    }

    /// Deletes all its data. It must not run.
    pub fn lose_data(&self) {
        assert!(self.process().is_none(), "etcd still runs");
        let data = self.directory.path().join("data");
        fs::remove_dir_all(data).expect("etcd's data can be removed");
    }

    /// Freezes the process: connections stay open, and there is no answer.
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    /// Thaws the process. Leases that expired meanwhile end.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// The keys that begin with `prefix`, and their values.
    pub fn get(&self, prefix: &str) -> BTreeMap<String, String> {
        let options = GetOptions::new().with_prefix();
        let answer = self.call(async |mut etcd| etcd.get(prefix, Some(options)).await);
        let pairs = answer.kvs().iter();
        pairs.map(|kv| (text(kv.key()), text(kv.value()))).collect()
    }

    /// The number of keys that begin with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        let options = GetOptions::new().with_prefix().with_count_only();
        let answer = self.call(async |mut etcd| etcd.get(prefix, Some(options)).await);
        usize::try_from(answer.count()).expect("a number of keys")
    }

    /// A key with its lease and revisions, if it exists.
    pub fn kv(&self, key: &str) -> Option<KeyValue> {
        let answer = self.call(async |mut etcd| etcd.get(key, None).await);
        answer.kvs().first().map(|kv| KeyValue {
            value: text(kv.value()),
            lease: kv.lease(),
            create_revision: kv.create_revision(),
            mod_revision: kv.mod_revision(),
        })
    }

    /// The revision of the whole store: it counts every transaction that changed something.
    pub fn revision(&self) -> i64 {
        let options = GetOptions::new().with_count_only();
        let answer = self.call(async |mut etcd| etcd.get("/", Some(options)).await);
        answer.header().expect("an answer has a header").revision()
    }

    /// Writes a key without a lease.
    pub fn put(&self, key: &str, value: &str) {
        self.call(async |mut etcd| etcd.put(key, value, None).await);
    }

    /// Writes several keys without a lease in one transaction.
    pub fn put_together(&self, pairs: &[(String, String)]) {
        let puts = pairs
            .iter()
            .map(|(key, value)| TxnOp::put(key.as_str(), value.as_str(), None));
        let puts: Vec<TxnOp> = puts.collect();
        self.call(async |mut etcd| etcd.txn(Txn::new().and_then(puts)).await);
    }

    /// Writes so many keys without a lease.
    pub fn put_many(&self, number: usize, key: impl Fn(usize) -> String) {
        const AT_ONCE: usize = 128;
        for from in (0..number).step_by(AT_ONCE) {
            let put = |number| TxnOp::put(key(number), "x", None);
            let puts: Vec<TxnOp> = (from..number.min(from + AT_ONCE)).map(put).collect();
            self.call(async |mut etcd| etcd.txn(Txn::new().and_then(puts)).await);
        }
    }

    /// Writes a key on a lease, which must exist.
    pub fn put_with_lease(&self, key: &str, value: &str, lease: i64) {
        let options = PutOptions::new().with_lease(lease);
        self.call(async |mut etcd| etcd.put(key, value, Some(options)).await);
    }

    /// Deletes a key, on any lease.
    pub fn delete(&self, key: &str) {
        self.call(async |mut etcd| etcd.delete(key, None).await);
    }

    /// Makes a lease of at least `ttl` seconds that nobody keeps alive. An `id` of 0 lets etcd choose.
    pub fn grant(&self, ttl: i64, id: i64) -> i64 {
        let options = LeaseGrantOptions::new().with_id(id);
        let answer = self.call(async |mut etcd| etcd.lease_grant(ttl, Some(options)).await);
        answer.id()
    }

    /// Waits for this many seconds by etcd's clock: until a lease that is granted now has expired.
    ///
    /// # Panics
    ///
    /// If etcd keeps the lease for more than [`SOON`] beyond its time.
    #[track_caller]
    pub fn let_pass(&self, seconds: u32) {
        let lease = self.grant(i64::from(seconds), 0);
        let deadline = SOON + Duration::from_secs(u64::from(seconds));
        eventually(deadline, &format!("{seconds} seconds to pass"), || {
            self.time_to_live(lease).1 < 0
        });
    }

    /// Revokes a lease, which deletes its keys.
    pub fn revoke(&self, lease: i64) {
        self.call(async |mut etcd| etcd.lease_revoke(lease).await);
    }

    /// All leases there are, in order of their ids.
    pub fn leases(&self) -> Vec<i64> {
        let answer = self.call(async |mut etcd| etcd.leases().await);
        let mut ids: Vec<i64> = answer.leases().iter().map(LeaseStatus::id).collect();
        ids.sort_unstable();
        ids
    }

    /// The granted and the remaining seconds of a lease. The latter are negative if it does not exist.
    pub fn time_to_live(&self, lease: i64) -> (i64, i64) {
        let answer = self.call(async |mut etcd| etcd.lease_time_to_live(lease, None).await);
        (answer.granted_ttl(), answer.ttl())
    }

    /// The keys that are on a lease, in order.
    pub fn keys_of_lease(&self, lease: i64) -> Vec<String> {
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let answer =
            self.call(async |mut etcd| etcd.lease_time_to_live(lease, Some(options)).await);
        let mut keys: Vec<String> = answer.keys().iter().map(|key| text(key)).collect();
        keys.sort_unstable();
        keys
    }

    /// Starts the process and waits until it answers. False if its port was taken.
    fn spawn(&self) -> bool {
        self.launch();
        self.answers()
    }

    pub(super) fn launch(&self) {
        let client = format!("http://{}", self.endpoint());
        let peer = self.peer_url();
        let log = self.directory.path().join("log");
        let file = File::create(&log).expect("etcd's log can be made");
        let child = Command::new(&self.program)
            .args(["--name", "test", "--data-dir"])
            .arg(self.directory.path().join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            // A quick election also allows leases of one second, where the defaults allow two.
            .args(["--heartbeat-interval", "10", "--election-timeout", "100"])
            .args(&self.flags)
            .stdout(file.try_clone().expect("etcd's log can be shared"))
            .stderr(file)
            .spawn()
            .expect("`etcd` can be run: `make test` installs it");
        *self.process() = Some(child);
    }

    /// Waits until the process answers. False if it ended because its port was taken.
    pub(super) fn answers(&self) -> bool {
        let log = self.directory.path().join("log");
        let exited = |process: &mut Option<Child>| {
            let child = process.as_mut().expect("etcd was started");
            child.try_wait().expect("a child can be waited for")
        };
        let mut ended = false;
        super::eventually_some(SOON, "etcd to answer", || {
            ended = exited(&mut self.process()).is_some();
            (ended || self.connect()).then_some(())
        });
        if ended {
            *self.process() = None;
            let log = fs::read_to_string(&log).unwrap_or_default();
            let taken = log.contains("address already in use");
            assert!(taken, "etcd does not start:\n{log}");
        }
        !ended
    }

    /// Makes the client, and checks that the etcd that runs now answers it.
    pub(super) fn connect(&self) -> bool {
        let attempt = async {
            let mut client = Client::connect([self.endpoint()], None).await?;
            client.get("/", None).await.map(|_| client)
        };
        let client = self.runtime.block_on(async {
            let answer = tokio::time::timeout(Duration::from_secs(1), attempt).await;
            answer.ok()?.ok()
        });
        let connected = client.is_some();
        *self.client() = client;
        connected
    }

    /// Makes a call of etcd, and waits for it.
    #[track_caller]
    pub(super) fn call<T>(&self, call: impl AsyncFnOnce(Client) -> Result<T, Error>) -> T {
        let client = self.client().clone();
        let client = client.expect("etcd runs");
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(CALL, call(client)).await });
        answer
            .unwrap_or_else(|_| panic!("etcd does not answer within {CALL:?}"))
            .unwrap_or_else(|error| panic!("etcd answers with an error: {error}"))
    }

    fn end(&self, name: &str) {
        let mut child = self.process().take().expect("etcd runs");
        *self.client() = None;
        signal(child.id(), name);
        child.wait().expect("a child can be waited for");
    }

    /// The process that runs now.
    pub fn pid(&self) -> u32 {
        self.process().as_ref().expect("etcd runs").id()
    }

    fn client(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().expect(UNPOISONED)
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().expect(UNPOISONED)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut()
            && let Some(mut child) = process.take()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Two ports that are free now. Both are held until both are known, so that they differ.
pub(super) fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
    let port = |listener: &TcpListener| listener.local_addr().expect("a port was bound").port();
    let (client, peer) = (bind(), bind());
    (port(&client), port(&peer))
}
