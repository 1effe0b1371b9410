//! A Redis or Valkey process for one unit test.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use redis::{Cmd, Value};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::link::Request;
use super::{Place, RedisStore, Settings};
use crate::base::calls::Calls;
use crate::store::conformance::Server;
use crate::store::{Password, User};

/// The attempts to start on a free port, because another program may take it before the server does.
const ATTEMPTS: usize = 10;
/// The longest time to wait for anything: long enough that only a broken server fails.
pub const SOON: Duration = Duration::from_secs(30);
/// The time limit of a call in a test.
const LIMIT: Duration = Duration::from_secs(10);

/// A server with its own directory and port. It is killed on drop.
pub struct Process {
    child: Child,
    program: PathBuf,
    args: Vec<String>,
    address: String,
    is_tls: bool,
    directory: TempDir,
}

/// The servers to test with: the system's Redis, and those that `tests/setup.sh` lists in `VALKEYS`. In CI it panics if
/// Redis is not installed, because no test may be skipped there.
pub fn programs() -> Vec<PathBuf> {
    let redis = PathBuf::from("redis-server");
    let mut programs = Vec::new();
    if Command::new(&redis).arg("--version").output().is_ok() {
        programs.push(redis);
    } else {
        assert!(std::env::var_os("CI").is_none(), "redis-server is missing");
        eprintln!("passed over: redis-server is missing");
    }
    let valkeys = std::env::var_os("VALKEYS").unwrap_or_default();
    programs.extend(std::env::split_paths(&valkeys).filter(|path| !path.as_os_str().is_empty()));
    programs
}

impl Process {
    /// Starts the system's Redis, if it is installed.
    pub async fn start(args: &[&str]) -> Option<Self> {
        let program = programs().into_iter().next()?;
        Some(Self::start_program(&program, args).await)
    }

    /// Starts a server with further arguments, and waits until it answers.
    pub async fn start_program(program: &Path, args: &[&str]) -> Self {
        Self::start_at(false, program, args).await
    }

    async fn start_at(is_tls: bool, program: &Path, args: &[&str]) -> Self {
        for _ in 0..ATTEMPTS {
            let started = Self::spawn(is_tls, program, args);
            let mut process =
                started.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            if process.answers().await {
                return process;
            }
        }
        panic!(
            "{} found no free port in {ATTEMPTS} attempts",
            program.display()
        );
    }

    /// Starts the system's Redis with TLS at its port; `files` are the CA, the certificate and its key.
    pub async fn start_tls(files: &[String; 3]) -> Option<Self> {
        let [ca, certificate, key] = files;
        let args = [
            "--tls-ca-cert-file",
            ca,
            "--tls-cert-file",
            certificate,
            "--tls-key-file",
            key,
        ];
        let program = programs().into_iter().next()?;
        Some(Self::start_at(true, &program, &args).await)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn settings(&self) -> Settings {
        Settings {
            place: Place::Servers(vec![self.address.clone()]),
            db: 0,
            tls: None,
            user: None,
            calls: Calls::default(),
        }
    }

    pub fn store(&self) -> RedisStore {
        RedisStore::new(self.settings(), LIMIT)
    }

    /// Freezes it: connections stay open and get no answer.
    pub fn freeze(&self) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-STOP", &pid]).status();
        assert!(killed.expect("kill is there").success());
    }

    fn spawn(is_tls: bool, program: &Path, args: &[&str]) -> std::io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let port = address.port().to_string();
        let ports = if is_tls {
            vec!["--port", "0", "--tls-port", &port]
        } else {
            vec!["--port", &port]
        };
        let fixed = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let args = [&ports[..], &fixed[..], args].concat();
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        Ok(Self {
            child: run(program, &args, directory.path())?,
            program: program.to_owned(),
            args,
            address: address.to_string(),
            is_tls,
            directory,
        })
    }

    /// Asks for a sign of life. A server that wants a password gives one too; one with TLS only accepts a connection.
    async fn pings(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(&self.address).await?;
        if self.is_tls {
            return Ok(());
        }
        stream.write_all(b"PING\r\n").await?;
        stream.read_u8().await.map(drop)
    }

    /// Waits until it answers, be it with a refusal. False if it ended because the port was taken.
    async fn answers(&mut self) -> bool {
        let log = self.directory.path().join("log");
        let log = || fs::read_to_string(&log).unwrap_or_default();
        let begun = Instant::now();
        loop {
            if self.pings().await.is_ok() {
                return true;
            }
            if self.child.try_wait().expect("a child").is_some() {
                let log = log();
                let is_taken = log.contains("Address already in use");
                assert!(is_taken, "the server does not start:\n{log}");
                return false;
            }
            assert!(
                begun.elapsed() < SOON,
                "the server does not answer:\n{}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn run(program: &Path, args: &[String], directory: &Path) -> std::io::Result<Child> {
    let log = File::create(directory.join("log"))?;
    let mut command = Command::new(program);
    command.args(args).arg("--dir").arg(directory);
    command.stdout(log.try_clone()?).stderr(log).spawn()
}

impl Server for Process {
    async fn restart(&mut self, down: Duration) {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
        tokio::time::sleep(down).await;
        let child = run(&self.program, &self.args, self.directory.path());
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

impl RedisStore {
    /// Makes a call that no registrar makes. `command` is its words, separated by spaces.
    pub(super) async fn ask(&mut self, command: &str) -> Value {
        let mut words = command.split(' ');
        let mut request: Cmd = redis::cmd(words.next().expect("a word"));
        for word in words {
            request.arg(word);
        }
        let answer = self.connection.call(&Request::Command(request)).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}

/// A user with this password.
pub fn user(name: &str, password: &str) -> User {
    User {
        name: name.to_owned(),
        password: Password::Text(password.to_owned()),
    }
}
