//! A private Docker daemon for a test, which can be stopped, killed and started again.

use super::{SOON, UNPOISONED, container, eventually, eventually_some, lay_cable};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// The timeout for a daemon's start or end: it starts a containerd, and stops its containers.
const SLOW: Duration = Duration::from_secs(60);

/// The number of tries to start it.
const ATTEMPTS: usize = 3;

/// The timeout for the end of a crashed daemon's other processes.
const DEATH: Duration = Duration::from_secs(2);

/// A daemon with its own directories and its own network namespace, which it takes for the host's network. In the real
/// one it would interfere with the other daemon's bridge and packet filter. It ends with its containers when it goes
/// out of scope.
pub struct Dockerd {
    directory: TempDir,
    args: Vec<String>,
    process: Mutex<Option<Child>>,
    /// A process that keeps the network namespace while no daemon runs. It reads from the test, and so ends with it.
    network: Child,
    /// The pid of that process. `network` may be `sudo`.
    network_pid: String,
    /// The path of the network namespace, for `nsenter`.
    namespace: String,
}

impl Dockerd {
    /// Starts a daemon, and copies an image to it from the tests' daemon.
    ///
    /// # Panics
    ///
    /// If there is none to start, or it does not answer; the message ends with its log.
    pub fn start(image: &str, live_restore: bool) -> Self {
        let args = live_restore.then_some("--live-restore");
        Self::start_with(image, args)
    }

    /// The same with further arguments.
    ///
    /// # Panics
    ///
    /// As [`Dockerd::start`].
    pub fn start_with<'a>(image: &str, args: impl IntoIterator<Item = &'a str>) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("docker-register-dockerd-")
            .tempdir()
            .expect("a temporary directory can be made");
        let mut network = as_root("unshare")
            .args(["--net", "sh", "-c", "echo $$; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`unshare` can be run");
        let mut pid = String::new();
        let output = network.stdout.as_mut().expect("stdout is a pipe");
        BufReader::new(output)
            .read_line(&mut pid)
            .expect("a pipe can be read");
        let daemon = Dockerd {
            directory,
            args: args.into_iter().map(str::to_owned).collect(),
            process: Mutex::new(None),
            namespace: format!("--net=/proc/{}/ns/net", pid.trim()),
            network_pid: pid.trim().to_owned(),
            network,
        };
        daemon.start_again();
        copy_image(image, &daemon.host());
        daemon
    }

    /// The address, in the form of `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// A socket that forwards to a port in the daemon's network, which cannot be reached from outside.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn way_to(&self, port: u16) -> String {
        let (socket, config) = (self.path("way.sock"), self.path("way.cfg"));
        let text = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 1h\n timeout server 1h\n\
             listen way\n bind unix@{} mode 666\n server daemon 127.0.0.1:{port}\n",
            socket.display()
        );
        fs::write(&config, text).expect("a file can be written");
        let script = "busybox ip link set lo up && exec haproxy -D -f \"$0\"";
        let status = as_root("nsenter")
            .args([&self.namespace, "sh", "-c", script])
            .arg(&config)
            .status()
            .expect("`nsenter` can be run");
        assert!(status.success(), "haproxy cannot be started");
        format!("unix://{}", socket.display())
    }

    /// Joins the daemon's network with this one, and returns its address there. Published ports are reached at it.
    ///
    /// # Panics
    ///
    /// If it cannot be done, or was done before.
    pub fn connect(&self) -> String {
        lay_cable(&self.network_pid)
    }

    /// As [`super::Container::event_time`], of a container of this daemon by its id.
    pub fn event_time(&self, id: &str, event: &str) -> SystemTime {
        container::event_time(id, event, |args| self.docker(args))
    }

    /// Runs the `docker` client with this daemon and returns what it prints.
    ///
    /// # Panics
    ///
    /// With what it says on stderr if it fails.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        super::docker(&[&["--host", &self.host()], args].concat())
    }

    /// Starts a container in the daemon's network, and returns its id. The container stops at once when asked.
    #[track_caller]
    pub fn run(&self, image: &str, args: &[&str]) -> String {
        let run = ["run", "--detach", "--pull", "never", "--network", "host"];
        // It serves nothing, because two containers could not serve on the same ports.
        let command = [
            "sh",
            "-c",
            "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done",
        ];
        self.docker(&[&run[..], args, &[image], &command].concat())
    }

    /// Stops it as an operator does, and waits for its end.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// Kills it, as a crash would.
    pub fn kill9(&self) {
        self.end("KILL");
        let pid = fs::read_to_string(self.path("exec/containerd/containerd.pid"));
        let containerd = Path::new("/proc").join(pid.unwrap_or_default().trim());
        let start = Instant::now();
        while containerd.exists() && start.elapsed() < DEATH {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again, with the same data, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not; the message ends with its log.
    #[track_caller]
    pub fn start_again(&self) {
        // After a crash it may find its old containerd still ending, and exit. systemd would then start it again, and
        // so does this.
        for _ in 0..ATTEMPTS {
            self.launch();
            let mut ended = false;
            eventually(SLOW, "dockerd to answer", || {
                let mut process = self.process.lock().expect(UNPOISONED);
                let child = process.as_mut().expect("dockerd was started");
                ended = child
                    .try_wait()
                    .expect("a child can be waited for")
                    .is_some();
                ended || self.is_up()
            });
            if !ended {
                return;
            }
        }
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        panic!("dockerd does not start:\n{log}");
    }

    fn launch(&self) {
        let log = File::create(self.path("log")).expect("a log can be made");
        let mut command = as_root("nsenter");
        command
            .args([&self.namespace, "dockerd"])
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .args(["--host", &self.host()])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log can be shared"))
            .stderr(log);
        let child = command.spawn().expect("`dockerd` can be run");
        *self.process.lock().expect(UNPOISONED) = Some(child);
    }

    fn is_up(&self) -> bool {
        let mut info = Command::new("docker");
        info.args(["--host", &self.host(), "info"])
            .stdin(Stdio::null());
        info.output().is_ok_and(|output| output.status.success())
    }

    #[track_caller]
    fn end(&self, signal: &str) {
        // The pid comes from the pid file, because the child may be `sudo`.
        let pid = fs::read_to_string(self.path("pid")).expect("dockerd runs");
        assert!(kill(pid.trim(), signal), "dockerd cannot be told to end");
        let child = self.process.lock().expect(UNPOISONED).take();
        let mut child = child.expect("dockerd runs");
        eventually_some(SLOW, "dockerd to end", || {
            child.try_wait().expect("a child can be waited for")
        });
        let _ = fs::remove_file(self.path("pid"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Removes its containers. The daemon must run.
    fn remove_containers(&self) {
        let host = self.host();
        let list = ["--host", &host, "ps", "--all", "--quiet"];
        let Ok(listing) = Command::new("docker").args(list).output() else {
            return;
        };
        let ids = String::from_utf8_lossy(&listing.stdout).into_owned();
        if !ids.is_empty() {
            let remove = ["--host", &host, "rm", "--force", "--volumes"];
            let ids = ids.split_whitespace();
            let _ = Command::new("docker").args(remove).args(ids).output();
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let running = self.process.get_mut().is_ok_and(|child| child.is_some());
        if !running {
            self.launch();
        }
        for _ in 0..200 {
            if self.is_up() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.remove_containers();
        if let Ok(pid) = fs::read_to_string(self.path("pid")) {
            kill(pid.trim(), "TERM");
        }
        if let Ok(process) = self.process.get_mut()
            && let Some(mut child) = process.take()
        {
            for _ in 0..300 {
                if matches!(child.try_wait(), Ok(Some(_))) {
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        // The process that kept the network ends when its input ends.
        drop(self.network.stdin.take());
        let _ = self.network.wait();
        // With live restore, and after a crash, its containerd lives on.
        for pid in processes_of(self.directory.path()) {
            kill(&pid, "KILL");
        }
        let inside = self.directory.path().display().to_string();
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let mut mounts: Vec<&str> = mounts.filter(|path| path.starts_with(&inside)).collect();
        mounts.sort_unstable();
        for mount in mounts.into_iter().rev() {
            let _ = as_root("umount").arg(mount).output();
        }
        for name in ["data", "exec"] {
            let path = self.path(name);
            let _ = as_root("rm")
                .args(["-rf", "--one-file-system"])
                .arg(path)
                .output();
        }
    }
}

/// Copies an image from the tests' daemon to another one.
pub(super) fn copy_image(image: &str, host: &str) {
    let mut save = Command::new("docker")
        .args(["save", image])
        .stdout(Stdio::piped())
        .spawn()
        .expect("`docker` can be run");
    let pipe = save.stdout.take().expect("stdout is a pipe");
    let load = Command::new("docker")
        .args(["--host", host, "load", "--quiet"])
        .stdin(pipe)
        .output()
        .expect("`docker` can be run");
    let saved = save.wait().expect("a child can be waited for");
    assert!(
        saved.success() && load.status.success(),
        "{image} cannot be copied: {}",
        String::from_utf8_lossy(&load.stderr)
    );
}

/// The processes with a path below `directory` in their command line.
fn processes_of(directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries.flatten().filter_map(|entry| {
        let id = entry.file_name().into_string().ok()?;
        id.parse::<u32>().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line)
            .contains(&directory)
            .then_some(id)
    });
    ids.collect()
}

/// A command that runs a program as root. If the tests do not run as root, `sudo` must need no password.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    lines.any(|line| line.split_whitespace().take(2).eq(["Uid:", "0"]))
}

fn kill(pid: &str, signal: &str) -> bool {
    let mut command = as_root("sh");
    command.args(["-c", "kill -s \"$0\" \"$1\"", signal, pid]);
    command.output().is_ok_and(|output| output.status.success())
}
