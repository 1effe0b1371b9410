//! A private Podman for a test, with its Docker-compatible socket.

use super::dockerd::{as_root, copy_image};
use super::{SOON, eventually};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The script of Podman's service, in namespaces and directories of its own. All of it ends when its input is closed.
const SCRIPT: &str = r#"
set -e
mkdir -p /var/lib/cni
mount -t tmpfs none /var/lib/cni
podman --root "$0/data" --runroot "$0/run" --storage-driver vfs system service --time=0 "unix://$0/podman.sock" &
cat
"#;

/// The configuration: without systemd, and with no more rights than a container has inside another.
const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"#;

/// A Podman, which ends with its containers when it goes out of scope.
pub struct Podman {
    directory: TempDir,
    process: Child,
}

impl Podman {
    /// Starts its service, and copies an image to it from the tests' Docker daemon.
    ///
    /// # Panics
    ///
    /// If it cannot be run, or does not answer.
    pub fn start(image: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("docker-register-podman-")
            .tempdir()
            .expect("a temporary directory can be made");
        let path = |name: &str| directory.path().join(name);
        let temporary = format!("tmp_dir = \"{}\"\n", path("tmp").display());
        fs::write(
            path("containers.conf"),
            format!("{CONFIGURATION}{temporary}"),
        )
        .expect("a file can be written");
        let log = fs::File::create(path("log")).expect("a log can be made");
        let process = as_root("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "env"])
            .arg(format!(
                "CONTAINERS_CONF={}",
                path("containers.conf").display()
            ))
            .args(["sh", "-c", SCRIPT])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("`unshare` can be run");
        let podman = Podman { directory, process };
        eventually(SOON, "Podman to answer", || {
            let mut version = Command::new("docker");
            let version = version.args(["--host", &podman.host(), "version"]);
            version.output().is_ok_and(|output| output.status.success())
        });
        copy_image(image, &podman.host());
        podman
    }

    /// The address, in the form of `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("podman.sock").display())
    }

    /// Runs the `docker` client with it and returns what it prints.
    ///
    /// # Panics
    ///
    /// With what it says on stderr if it fails.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        super::docker(&[&["--host", &self.host()], args].concat())
    }

    /// Runs Podman's own client with it and returns what it prints.
    ///
    /// # Panics
    ///
    /// With what it says on stderr if it fails.
    #[track_caller]
    pub fn podman(&self, args: &[&str]) -> String {
        let output = Command::new("podman")
            .args(["--url", &self.host()])
            .args(args)
            .output()
            .expect("`podman` can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "`podman {}` failed: {said}",
            args.join(" ")
        );
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let host = self.host();
        let list = ["--host", &host, "ps", "--all", "--quiet"];
        if let Ok(listing) = Command::new("docker").args(list).output() {
            // Only the end of the containers removes their control groups.
            let ids = String::from_utf8_lossy(&listing.stdout).into_owned();
            let remove = ["--host", &host, "rm", "--force"];
            let ids = ids.split_whitespace();
            let _ = Command::new("docker").args(remove).args(ids).output();
        }
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        // The files belong to root.
        for name in ["data", "run", "tmp", "podman.sock"] {
            let mut rm = as_root("rm");
            let _ = rm
                .args(["-rf", "--one-file-system"])
                .arg(self.path(name))
                .output();
        }
    }
}
