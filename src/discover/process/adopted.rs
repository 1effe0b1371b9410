//! A running `HAProxy` that is not our child.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::discover::haproxy::{Haproxy, Sockets};

/// The time between two looks at a process, on a Linux before 5.3.
const LOOK: Duration = Duration::from_millis(250);
/// The time between two tries to connect.
const PAUSE: Duration = Duration::from_millis(10);

pub struct Adopted {
    pub pid: Pid,
    /// Readable from its end on, also while nobody has collected its status.
    handle: Option<AsyncFd<OwnedFd>>,
}

/// The `HAProxy` whose master answers. None if nobody listens on the socket for as long as `patience`. One that listens
/// and does not answer is an error, because a second one must not be started beside it.
pub async fn find(master: &Path, patience: Duration) -> anyhow::Result<Option<Adopted>> {
    let begun = Instant::now();
    while let Err(error) = UnixStream::connect(master).await {
        match error.kind() {
            ErrorKind::NotFound => return Ok(None),
            ErrorKind::ConnectionRefused if begun.elapsed() >= patience => return Ok(None),
            ErrorKind::ConnectionRefused => sleep(PAUSE).await,
            // The call below says more.
            _ => break,
        }
    }
    let haproxy = Haproxy::new(Sockets {
        stats: master.to_owned(),
        master: Some(master.to_owned()),
    });
    let workers = haproxy.workers().await;
    let workers = workers.context("no HAProxy is started, because one may be running")?;
    let pid = Pid::from_raw(workers.master).context("HAProxy's master has no process id")?;
    let adopted = Adopted::new(pid);
    let named = || format!("HAProxy's process {} cannot be watched", workers.master);
    adopted.map(Some).with_context(named)
}

impl Adopted {
    fn new(pid: Pid) -> io::Result<Self> {
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some(watch(handle)?),
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { pid, handle })
    }

    /// Waits for its end. Cancel safe.
    pub async fn ended(&self) {
        if let Some(handle) = &self.handle
            && handle.readable().await.is_ok()
        {
            return;
        }
        while test_kill_process(self.pid) != Err(Errno::SRCH) {
            sleep(LOOK).await;
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that may close their descriptor; an `OwnedFd` keeps it"
)]
fn watch(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(handle, Interest::READABLE)
}
