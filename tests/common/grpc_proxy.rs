//! etcd's own gRPC proxy in front of a test's etcd.

use super::etcd::{Etcd, free_ports};
use super::{SOON, eventually};
use std::fs::File;
use std::net::TcpStream;
use std::process::{Child, Command};
use tempfile::TempDir;

/// `etcd grpc-proxy`. It is killed when it goes out of scope.
pub struct GrpcProxy {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl GrpcProxy {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(etcd: &Etcd) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let (port, _) = free_ports();
        let log = File::create(directory.path().join("log")).expect("a log can be made");
        let child = Command::new("etcd")
            .args(["grpc-proxy", "start", "--endpoints", &etcd.endpoint()])
            .args(["--listen-addr", &format!("127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(directory.path())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log)
            .spawn()
            .expect("`etcd` can be run: `make test` installs it");
        let proxy = GrpcProxy {
            child,
            port,
            _directory: directory,
        };
        eventually(SOON, "etcd's gRPC proxy to listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        proxy
    }

    /// `127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for GrpcProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
