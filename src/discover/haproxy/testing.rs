//! A real `HAProxy` for one unit test.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Haproxy, Sockets};

/// The longest time to wait for anything: long enough that only a broken program fails.
pub const SOON: Duration = Duration::from_secs(30);

/// The programs: one for each version that `tests/setup.sh` has got, else the one in `PATH`. Empty if there is none;
/// in CI it panics then, because no test may be skipped there.
pub fn programs() -> Vec<PathBuf> {
    let list = std::env::var_os("HAPROXIES").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&list)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if found.is_empty() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let program = paths.map(|it| it.join("haproxy")).find(|it| it.exists());
        found.extend(program);
    }
    if found.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "HAProxy is missing");
        eprintln!("passed over: HAProxy is missing");
    }
    found
}

/// A directory with a configuration and the two sockets.
pub struct Place {
    pub directory: TempDir,
}

impl Place {
    /// With the servers `a`, `b` and the frontend `front` of the backend `web`. No port is listened on: its frontend
    /// has a Unix socket.
    pub fn new() -> Self {
        let place = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        place.configure("");
        place
    }

    /// Writes the configuration, with more lines at its end.
    pub fn configure(&self, more: &str) {
        let path = |name: &str| self.path(name).display().to_string();
        let (stats, front, saved) = (path("stats"), path("front"), path("state"));
        let text = format!(
            "global\n  stats socket {stats} mode 600 level admin\n\
             defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  \
             load-server-state-from-file global\n\
             frontend front\n  bind unix@{front}\n  default_backend web\n\
             backend web\n  balance leastconn\n  server a 127.0.0.1:1\n  server b 127.0.0.1:2\n\
             backend empty\n  balance leastconn\n{more}"
        );
        let text = text.replacen(
            "global\n",
            &format!("global\n  server-state-file {saved}\n"),
            1,
        );
        fs::write(self.file(), text).unwrap();
    }

    pub fn file(&self) -> PathBuf {
        self.path("haproxy.cfg")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn haproxy(&self) -> Haproxy {
        Haproxy::new(Sockets {
            stats: self.path("stats"),
            master: Some(self.path("master")),
        })
    }

    /// Starts a program, and waits until both sockets answer.
    pub async fn start(&self, program: &PathBuf) -> Running {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new(program)
            .arg("-W")
            .arg("-S")
            .arg(format!("{},mode,600", self.path("master").display()))
            .arg("-f")
            .arg(self.file())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.wait_for_answers().await;
        Running { child }
    }

    pub async fn wait_for_answers(&self) {
        let begun = Instant::now();
        let haproxy = self.haproxy();
        loop {
            let failure = match (haproxy.running().await, haproxy.workers().await) {
                (Ok(_), Ok(_)) => return,
                (running, workers) => format!("{running:?} {workers:?}"),
            };
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(
                begun.elapsed() < SOON,
                "it does not answer: {failure}\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// It is stopped on drop, with its workers.
pub struct Running {
    child: Child,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // At SIGKILL its workers would live on for a moment.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}
