//! A proxy as our child: started, started again when it ends, adopted when a former `discover` has left it running. It
//! lives on when we are killed, so there is never a second one while the first answers.

mod adopted;
mod check;
mod output;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::pending;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

pub use check::check;

use crate::base::text::quote;
use adopted::Adopted;
use output::Output;

/// The first wait before a proxy that keeps ending is started again; each further one is twice as long. The first start
/// comes at once.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A proxy that has run for this long is started again at once.
const STEADY: Duration = Duration::from_secs(30);
/// The time from SIGTERM to SIGKILL, and from that to giving up.
const FORCED: Duration = Duration::from_secs(3);
/// The time for which a socket may refuse connections although its process lives, as the master of 2.6 does while it
/// reloads.
const RELOADING: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub struct Settings {
    /// The program and its arguments. It must stay in the foreground.
    pub command: Vec<OsString>,
    /// The socket of `HAProxy`'s master, by which a running one is found. None for a proxy that has no such socket,
    /// which is never adopted.
    pub master: Option<PathBuf>,
}

impl Settings {
    /// `HAProxy` with the flags for reloads by the socket.
    pub fn haproxy(program: &OsStr, file: &Path, master: &Path) -> Self {
        let mut socket = master.as_os_str().to_owned();
        socket.push(",mode,600");
        let arguments = [
            "-W".as_ref(),
            "-S".as_ref(),
            &*socket,
            "-f".as_ref(),
            file.as_os_str(),
        ];
        Self {
            command: [&[program], &arguments[..]]
                .concat()
                .into_iter()
                .map(OsStr::to_owned)
                .collect(),
            master: Some(master.to_owned()),
        }
    }

    fn program(&self) -> String {
        let program = self.command.first();
        quote(&program.map_or_else(String::new, |it| it.display().to_string()))
    }
}

/// A supervised proxy. Dropping it lets the proxy go on.
pub struct Process {
    settings: Settings,
    /// None from its end until it is started again.
    running: Option<Running>,
    output: Output,
    /// The last start.
    began: Instant,
    /// The wait before the last start; none if it ran steadily.
    wait: Option<Duration>,
    /// The time of the next start.
    next: Instant,
}

enum Running {
    Child(Box<Child>),
    Adopted(Adopted),
}

/// The end of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    Exited(ExitStatus),
    /// It was another process's child.
    Unknown,
}

impl Process {
    /// Adopts the proxy that answers on the master's socket, or starts one.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let now = Instant::now();
        let mut process = Self {
            settings,
            running: None,
            output: Output::default(),
            began: now,
            wait: None,
            next: now,
        };
        process.launch(RELOADING).await?;
        Ok(process)
    }

    /// The process id, of the master if it has workers. None if it does not run.
    pub fn pid(&self) -> Option<Pid> {
        match self.running.as_ref()? {
            Running::Child(child) => Pid::from_raw(child.id()?.cast_signed()),
            Running::Adopted(adopted) => Some(adopted.pid),
        }
    }

    /// Whether it was running before us. Its output goes where it went then.
    #[cfg(test)]
    pub fn is_adopted(&self) -> bool {
        matches!(self.running, Some(Running::Adopted(_)))
    }

    /// The last lines of its output, oldest first. None of an adopted one.
    pub fn last_lines(&self) -> Vec<String> {
        self.output.last_lines()
    }

    /// Waits for its end; for ever if it does not run. Cancel safe. [`Process::restart`] starts it again.
    pub async fn died(&mut self) -> Death {
        let death = self.ended().await;
        if self.began.elapsed() >= STEADY {
            self.wait = None;
        }
        self.put_off(&format!("{} {death}", self.settings.program()));
        death
    }

    async fn ended(&mut self) -> Death {
        let death = match &mut self.running {
            Some(Running::Child(child)) => child.wait().await.map_or(Death::Unknown, Death::Exited),
            Some(Running::Adopted(adopted)) => {
                adopted.ended().await;
                Death::Unknown
            }
            None => pending().await,
        };
        self.running = None;
        death
    }

    /// Starts it again after [`Process::died`]: at once the first time, then after 1 s … 30 s if it ends again soon.
    /// Returns when it runs; each failure is logged. Cancel safe: the next call goes on with the same wait.
    pub async fn restart(&mut self) {
        while self.running.is_none() {
            sleep_until(self.next).await;
            if let Err(error) = self.launch(Duration::ZERO).await {
                self.put_off(&format!("{error:#}"));
            }
        }
    }

    /// Ends it: SIGUSR1, at which `HAProxy` lets open connections end, SIGTERM after `graceful`, SIGKILL last.
    pub async fn stop(&mut self, graceful: Duration) {
        let steps = [
            (Signal::USR1, graceful),
            (Signal::TERM, FORCED),
            (Signal::KILL, FORCED),
        ];
        for (signal, limit) in steps {
            let Some(pid) = self.pid() else { return };
            if limit.is_zero() {
                continue;
            }
            // It fails if it has just ended, which is seen next.
            let _ = kill_process(pid, signal);
            if timeout(limit, self.ended()).await.is_ok() {
                return;
            }
        }
        warn!(
            "{} cannot be stopped; it is left running",
            self.settings.program()
        );
    }

    /// Lets it go on without us.
    pub fn leave(self) {
        if let Some(pid) = self.pid() {
            let program = self.settings.program();
            info!(
                "{program} is left running, as process {}",
                pid.as_raw_nonzero()
            );
        }
    }

    async fn launch(&mut self, patience: Duration) -> anyhow::Result<()> {
        let program = self.settings.program();
        let found = match &self.settings.master {
            Some(master) => adopted::find(master, patience).await?,
            None => None,
        };
        let running = if let Some(adopted) = found {
            let pid = adopted.pid.as_raw_nonzero();
            info!("HAProxy already runs, as process {pid}; using it");
            Running::Adopted(adopted)
        } else {
            let child = self
                .spawn()
                .with_context(|| format!("cannot start {program}"))?;
            info!(
                "{program} started, as process {}",
                child.id().unwrap_or_default()
            );
            Running::Child(Box::new(child))
        };
        // Nothing is awaited since the start, so that no started one can be forgotten.
        self.running = Some(running);
        self.began = Instant::now();
        Ok(())
    }

    fn spawn(&mut self) -> anyhow::Result<Child> {
        let Some((program, arguments)) = self.settings.command.split_first() else {
            bail!("the command is empty");
        };
        let mut child = Command::new(program)
            .args(arguments)
            // A terminal's Ctrl-C is for us alone: it would cut all connections.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(stdout) = child.stdout.take() {
            self.output.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            self.output.follow(stderr);
        }
        Ok(child)
    }

    /// Sets the time of the next start.
    fn put_off(&mut self, why: &str) {
        let wait = match self.wait {
            None => Duration::ZERO,
            Some(wait) => (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT),
        };
        match wait.as_secs() {
            0 => warn!("{why}; starting it again"),
            seconds => warn!("{why}; starting it again in {seconds} s"),
        }
        self.wait = Some(wait);
        self.next = Instant::now() + wait;
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "has ended"),
            Self::Exited(status) => match (status.code(), status.signal()) {
                // HAProxy's master exits with this when it has lost a worker.
                (Some(code), _) if code > 128 => {
                    write!(
                        f,
                        "has ended, because a worker died of signal {}",
                        code - 128
                    )
                }
                (Some(code), _) => write!(f, "has ended with status {code}"),
                (None, Some(signal)) => write!(f, "has died of signal {signal}"),
                (None, None) => write!(f, "has ended"),
            },
        }
    }
}
