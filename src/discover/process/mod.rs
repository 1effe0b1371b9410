//! A proxy as our child: started, started again when it ends, adopted when a former `discover` has left it running. It
//! lives on when we are killed, so there is never a second one while the first answers.

mod adopted;
mod check;
pub mod nginx;
mod output;
mod settings;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::pending;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

pub use adopted::peer;
pub use check::{check, run};
pub use settings::{Kind, Settings};
pub use table::{instance, is_running};

use adopted::Adopted;
use output::Output;

/// The first wait before a proxy that keeps ending is started again; each further one is twice as long. The first start
/// comes at once.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A proxy that has run for this long is started again at once.
const STEADY: Duration = Duration::from_secs(30);
/// How long the first routes are waited for before the proxy starts with the configuration of an earlier process.
pub const FIRST_ROUTES: Duration = Duration::from_secs(2);
/// How long our proxy may let its connections end at exit.
pub const GRACE: Duration = Duration::from_secs(3);
/// The time from SIGTERM to SIGKILL, and from that to giving up.
const FORCED: Duration = Duration::from_secs(3);
/// The time for which a socket may refuse connections although its process lives, as the master of 2.6 does while it
/// reloads.
const RELOADING: Duration = Duration::from_millis(200);

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

/// A change of our proxy.
pub enum Event {
    Died(Death),
    Restarted,
}

/// The end of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    Exited(ExitStatus),
    /// It was another process's child.
    Unknown,
}

/// Waits for the death of our proxy, or for its next start if it has ended. It may be dropped and called again.
pub async fn tend(process: &mut Option<Process>) -> Event {
    match process {
        Some(process) if process.pid().is_some() => Event::Died(process.died().await),
        Some(process) => {
            process.restart().await;
            Event::Restarted
        }
        None => pending().await,
    }
}

impl Process {
    /// Adopts the proxy that runs already, or starts one.
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

    /// The last lines of its output since then, oldest first. None of an adopted one.
    pub fn lines_since(&self, begun: Instant) -> Vec<String> {
        self.output.lines_since(begun)
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
        let pid = self.pid();
        let death = match &mut self.running {
            Some(Running::Child(child)) => child.wait().await.map_or(Death::Unknown, Death::Exited),
            Some(Running::Adopted(adopted)) => {
                adopted.ended().await;
                Death::Unknown
            }
            None => pending().await,
        };
        self.running = None;
        if let (Kind::Nginx { .. }, Some(pid)) = (&self.settings.kind, pid) {
            // The workers of a master that was killed go on, and hold its addresses. It fails if there are none.
            let _ = kill_process_group(pid, Signal::QUIT);
        }
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

    /// Ends it: by the signal at which it lets open connections end, SIGTERM after `graceful`, SIGKILL last.
    pub async fn stop(&mut self, graceful: Duration) {
        let steps = [
            (self.settings.kind.graceful(), graceful),
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
        let found = adopted::find(&self.settings.kind, patience).await?;
        let running = if let Some(adopted) = found {
            let pid = adopted.pid.as_raw_nonzero();
            let name = self.settings.kind.name();
            info!("{name} already runs, as process {pid}; using it");
            Running::Adopted(adopted)
        } else {
            let child = self.spawn().with_context(|| {
                format!("cannot start {program}; install it, or name another command after `--`")
            })?;
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
