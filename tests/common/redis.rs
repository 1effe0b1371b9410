//! A Redis for one test, and the test's own client of it.

use super::{Event, Kind, SOON, UNPOISONED, Watch, eventually, free_port, signal};
use redis::{Client, Connection, FromRedisValue, RedisResult};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// The timeout of a call: far more than it needs, so that only a Redis that is down fails a test.
const CALL: Duration = Duration::from_secs(10);

/// The beginning of the channel that tells of a key's events.
const CHANNEL: &str = "__keyspace@0__:";

/// A script, because keys and values are then of one moment.
const GET: &str = "local found = {} \
                   for _, key in ipairs(redis.call('KEYS', ARGV[1])) do \
                     if redis.call('TYPE', key).ok == 'string' then \
                       found[#found + 1] = key found[#found + 1] = redis.call('GET', key) \
                     end \
                   end \
                   return found";

/// The user that replicas log in as.
const REPLICA: &str = "replica";

/// A Redis with its own directory and port. It is killed when it goes out of scope.
///
/// Its methods panic if it does not answer.
pub struct Redis {
    program: PathBuf,
    directory: TempDir,
    port: u16,
    flags: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Redis {
    /// Starts a Redis that keeps nothing on disk, and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&["--save", ""])
    }

    /// The same with another program, such as a Valkey.
    pub fn start_program(program: &Path) -> Self {
        let mut redis = Self::prepare();
        program.clone_into(&mut redis.program);
        redis.flags = ["--save", ""].map(str::to_owned).to_vec();
        redis.start_again();
        redis
    }

    /// Starts a replica of this one, and waits until it is in step.
    pub fn start_replica(&self) -> Self {
        self.call::<()>(&[
            "ACL", "SETUSER", REPLICA, "reset", "on", ">secret", "~*", "&*", "+@all",
        ]);
        let port = self.port.to_string();
        let replica = Self::start_with(&[
            "--save",
            "",
            "--replicaof",
            "127.0.0.1",
            &port,
            "--masteruser",
            REPLICA,
            "--masterauth",
            "secret",
        ]);
        eventually(SOON, "the replica to be in step", || {
            let info: String = replica.call(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        });
        replica
    }

    /// Cuts the replicas off for good: they get no further write, and their sentinels do not mind.
    pub fn cut_off_replicas(&self) {
        self.call::<()>(&["ACL", "SETUSER", REPLICA, "off"]);
        self.call::<u64>(&["CLIENT", "KILL", "TYPE", "replica"]);
    }

    /// Whether it is a primary, and no replica.
    pub fn is_primary(&self) -> bool {
        let info: String = self.call(&["INFO", "replication"]);
        info.contains("role:master")
    }

    /// Starts a Redis that keeps each change on disk.
    pub fn start_persistent() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a Redis with these lines in its `redis.conf`.
    pub fn start_configured(lines: &str) -> Self {
        let mut redis = Self::prepare();
        let file = redis.directory.path().join("redis.conf");
        fs::write(&file, lines).expect("a file can be written");
        redis.flags.push(file.display().to_string());
        redis.start_again();
        redis
    }

    fn start_with(flags: &[&str]) -> Self {
        let mut redis = Self::prepare();
        redis.flags = flags.iter().map(ToString::to_string).collect();
        redis.start_again();
        redis
    }

    /// A Redis with a directory and a free port, which is not started yet.
    fn prepare() -> Self {
        Self {
            program: "redis-server".into(),
            directory: directory(),
            port: free_port(),
            flags: Vec::new(),
            process: Mutex::default(),
        }
    }

    /// The value of `--store`, the same after [`Redis::start_again`].
    pub fn uri(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Starts it again after [`Redis::kill9`], with the same directory and port.
    pub fn start_again(&self) {
        let log = self.directory.path().join("log");
        let output = File::create(&log).expect("a log can be made");
        let child = Command::new(&self.program)
            // A file comes first.
            .args(&self.flags)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(self.directory.path())
            .stdout(output)
            .spawn()
            .expect("the server can be run: `make test` installs it");
        let before = self.process.lock().expect(UNPOISONED).replace(child);
        assert!(before.is_none(), "Redis runs already");
        eventually(SOON, "Redis to answer", || {
            let mut process = self.process.lock().expect(UNPOISONED);
            let ended = process.as_mut().and_then(|child| child.try_wait().ok()?);
            let text = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "Redis has ended:\n{}", text());
            self.try_call::<()>(&["PING"]).is_ok()
        });
    }

    /// Kills it, as a crash would.
    pub fn kill9(&self) {
        let process = self.process.lock().expect(UNPOISONED).take();
        let mut process = process.expect("Redis runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it can be waited for");
    }

    /// Freezes the process: connections stay open, and there is no answer.
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    /// Thaws the process.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// Calls a command, given by its words.
    #[track_caller]
    pub fn call<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let answer = self.try_call(words);
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The keys that begin with `prefix`, and their values.
    pub fn get(&self, prefix: &str) -> BTreeMap<String, String> {
        let pairs: Vec<String> = self.call(&["EVAL", GET, "0", &format!("{prefix}*")]);
        let pairs = pairs.chunks_exact(2);
        pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect()
    }

    /// The milliseconds that a key lives; none if it has no TTL.
    pub fn ttl(&self, key: &str) -> Option<u64> {
        u64::try_from(self.call::<i64>(&["PTTL", key])).ok()
    }

    /// The number of calls of a command since the start or `CONFIG RESETSTAT`, those by scripts included.
    pub fn calls_of(&self, command: &str) -> u64 {
        let stats: String = self.call(&["INFO", "commandstats"]);
        let begin = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&begin));
        let number = calls.and_then(|calls| calls.split(',').next()?.parse().ok());
        number.unwrap_or_default()
    }

    /// The number of changes of keys since its start, each new TTL among them, if nothing is kept on disk.
    pub fn changes(&self) -> i64 {
        let info: String = self.call(&["INFO", "persistence"]);
        let mut lines = info.lines();
        let number = lines.find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
        let number = number.and_then(|number| number.parse().ok());
        number.expect("a number of changes")
    }

    /// Follows the keys that begin with `prefix` from now on, with the time at which each change is seen. Its events have
    /// no revision, value or lease.
    pub fn watch(&self, prefix: &str) -> Watch {
        self.call::<()>(&["CONFIG", "SET", "notify-keyspace-events", "K$gxe"]);
        let mut connection = self.connect().expect("Redis can be connected to");
        let pattern = format!("{CHANNEL}{prefix}*");
        let (subscribed, is_subscribed) = mpsc::channel();
        let (sender, receiver) = mpsc::channel();
        // It ends with Redis, or at the first change after the watch.
        thread::spawn(move || -> RedisResult<()> {
            let mut messages = connection.as_pubsub();
            messages.psubscribe(pattern)?;
            let _ = subscribed.send(());
            loop {
                let message = messages.get_message()?;
                let now = SystemTime::now();
                let kind = match message.get_payload_bytes() {
                    b"set" => Kind::Put,
                    b"del" | b"expired" => Kind::Delete,
                    _ => continue,
                };
                let event = Event {
                    revision: 0,
                    kind,
                    key: message.get_channel_name()[CHANNEL.len()..].to_owned(),
                    value: String::new(),
                    lease: 0,
                };
                if sender.send((now, event)).is_err() {
                    return Ok(());
                }
            }
        });
        let subscribed = is_subscribed.recv_timeout(SOON);
        subscribed.expect("Redis tells of changes");
        Watch { receiver }
    }

    /// A connection of the caller's own.
    pub fn connect(&self) -> RedisResult<Connection> {
        Client::open(self.uri())?.get_connection_with_timeout(CALL)
    }

    fn try_call<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        call(&self.uri(), words)
    }

    fn pid(&self) -> u32 {
        let process = self.process.lock().expect(UNPOISONED);
        process.as_ref().expect("Redis runs").id()
    }
}

/// A sentinel with its own directory and port. It is killed when it goes out of scope.
pub struct Sentinel {
    /// Its configuration file is here, which it rewrites.
    _directory: TempDir,
    port: u16,
    process: Child,
}

impl Sentinel {
    /// Starts one that watches a primary with a replica by the name `mymaster`, and waits until it knows both.
    pub fn start(primary: &Redis) -> Self {
        let (directory, port) = (directory(), free_port());
        let path = directory.path().display();
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {path}\nsentinel monitor mymaster 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds mymaster 2000\n\
             sentinel failover-timeout mymaster 3000\n",
            primary.port
        );
        let file = directory.path().join("sentinel.conf");
        fs::write(&file, text).expect("a file can be written");
        let log = File::create(directory.path().join("log")).expect("a log can be made");
        let process = Command::new(&primary.program)
            .arg(&file)
            .arg("--sentinel")
            .stdout(log)
            .spawn()
            .expect("the server can be run: `make test` installs it");
        let sentinel = Self {
            _directory: directory,
            port,
            process,
        };
        let server = format!("redis://127.0.0.1:{port}");
        let replicas = ["SENTINEL", "REPLICAS", "mymaster"];
        eventually(SOON, "the sentinel to know the replica", || {
            call::<Vec<redis::Value>>(&server, &replicas).is_ok_and(|replicas| replicas.len() == 1)
        });
        sentinel
    }

    /// The value of `--store`.
    pub fn uri(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/mymaster/0", self.port)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("docker-register-redis-")
        .tempdir()
        .expect("a temporary directory can be made")
}

/// Calls a command of the server with this URI.
fn call<T: FromRedisValue>(uri: &str, words: &[&str]) -> RedisResult<T> {
    let mut connection = Client::open(uri)?.get_connection_with_timeout(CALL)?;
    connection.set_read_timeout(Some(CALL))?;
    let (first, rest) = words.split_first().expect("a command has a name");
    redis::cmd(first).arg(rest).query(&mut connection)
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Ok(Some(process)) = self.process.get_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
