//! A running proxy that is not our child.

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

use super::settings::Kind;
use super::{nginx, table};
use crate::base::text::quote;
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

/// The proxy that runs already. None if nobody listens on its socket for as long as `patience`, or no process has the
/// number in its pid file. One that may run and cannot be found is an error, because a second one must not be started
/// beside it.
pub async fn find(kind: &Kind, patience: Duration) -> anyhow::Result<Option<Adopted>> {
    let name = kind.name();
    let found = match kind {
        Kind::Haproxy { master: None } => Ok(None),
        Kind::Haproxy {
            master: Some(master),
        } => haproxy(master, patience).await,
        Kind::Nginx { pid_file, file } => find_nginx(pid_file, file.as_deref()),
        Kind::Envoy { admin } => peer(admin, patience).await,
    };
    let found = found.with_context(|| format!("no {name} is started, because one may be running"));
    let Some(pid) = found? else {
        return Ok(None);
    };
    let named = || {
        format!(
            "{name}'s process {} cannot be watched",
            pid.as_raw_nonzero()
        )
    };
    Adopted::new(pid).map(Some).with_context(named)
}

async fn haproxy(master: &Path, patience: Duration) -> anyhow::Result<Option<Pid>> {
    // The call below says more of an error.
    if let Ok(None) = connect(master, patience).await {
        return Ok(None);
    }
    let haproxy = Haproxy::new(Sockets {
        stats: master.to_owned(),
        master: Some(master.to_owned()),
    });
    let workers = haproxy.workers().await?;
    let pid = Pid::from_raw(workers.master).context("HAProxy's master has no process id")?;
    Ok(Some(pid))
}

fn find_nginx(pid_file: &Path, file: Option<&Path>) -> anyhow::Result<Option<Pid>> {
    let found = nginx::master(pid_file);
    let found = found.with_context(|| format!("cannot read {}", quoted(pid_file)))?;
    let is_ours = |pid: &Pid| {
        let title = table::title(pid.as_raw_nonzero().get());
        file.is_none_or(|file| title.contains(&*file.to_string_lossy()))
    };
    Ok(found.filter(is_ours))
}

/// The process that listens on a socket.
pub async fn peer(socket: &Path, patience: Duration) -> anyhow::Result<Option<Pid>> {
    let stream = connect(socket, patience).await;
    let Some(stream) = stream.with_context(|| format!("cannot open {}", quoted(socket)))? else {
        return Ok(None);
    };
    let process = stream.peer_cred()?.pid().filter(|process| *process > 0);
    let pid = process.and_then(Pid::from_raw);
    pid.map(Some)
        .with_context(|| format!("the process behind {} is not of this host", quoted(socket)))
}

/// None if nobody listens.
async fn connect(socket: &Path, patience: Duration) -> io::Result<Option<UnixStream>> {
    let begun = Instant::now();
    loop {
        let error = match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::NotFound => return Ok(None),
            ErrorKind::ConnectionRefused if begun.elapsed() >= patience => return Ok(None),
            ErrorKind::ConnectionRefused => sleep(PAUSE).await,
            _ => return Err(error),
        }
    }
}

fn quoted(path: &Path) -> String {
    quote(&path.display().to_string())
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
