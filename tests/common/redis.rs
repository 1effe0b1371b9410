//! A Redis for one test, and the test's own client of it.

use super::{Event, Kind, SOON, UNPOISONED, Watch, eventually, free_port, signal};
use redis::{Client, Connection, FromRedisValue, RedisResult};
use std::collections::BTreeMap;
use std::fs::{self, File};
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

/// A Redis with its own directory and port. It is killed when it goes out of scope.
///
/// Its methods panic if it does not answer.
pub struct Redis {
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
            directory: tempfile::Builder::new()
                .prefix("docker-register-redis-")
                .tempdir()
                .expect("a temporary directory can be made"),
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
        let child = Command::new("redis-server")
            // A file comes first.
            .args(&self.flags)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(self.directory.path())
            .stdout(output)
            .spawn()
            .expect("`redis-server` can be run: `make test` installs it");
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
        let mut connection = self.connect()?;
        connection.set_read_timeout(Some(CALL))?;
        let (first, rest) = words.split_first().expect("a command has a name");
        redis::cmd(first).arg(rest).query(&mut connection)
    }

    fn pid(&self) -> u32 {
        let process = self.process.lock().expect(UNPOISONED);
        process.as_ref().expect("Redis runs").id()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Ok(Some(process)) = self.process.get_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
