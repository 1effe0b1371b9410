//! nginx: loads its file at a SIGHUP. Its master does not tell whether it has: new workers do.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::base::text::quote;
use crate::discover::process::{self, Process, nginx};
use crate::discover::refused::Refused;

/// The program that checks configurations, and runs unless another command is given.
pub const PROGRAM: &str = "nginx";
/// The name of its file.
pub const FILE: &str = "nginx.conf";
/// How long new workers may take. nginx tries for 2.5 s to listen on an address that another process holds.
const LIMIT: Duration = Duration::from_secs(5);
/// The time between two looks at the workers.
const PAUSE: Duration = Duration::from_millis(5);

pub struct Nginx {
    pid_file: PathBuf,
}

impl Nginx {
    pub fn new(pid_file: &Path) -> Self {
        Self {
            pid_file: pid_file.to_owned(),
        }
    }

    /// The master: our child, unless the operator's command runs nginx as a child of its own.
    pub fn master(&self, child: Option<Pid>) -> anyhow::Result<Option<Pid>> {
        if child.is_some_and(nginx::is_nginx) {
            return Ok(child);
        }
        let found = nginx::master(&self.pid_file);
        found.with_context(|| format!("cannot read {}", self.quoted()))
    }

    /// The error while somebody else's does not run.
    pub fn missing(&self) -> anyhow::Error {
        anyhow!(
            "no nginx runs by its pid file {}; start nginx, or correct `--pid-file`",
            self.quoted()
        )
    }

    pub async fn check(&self, staged: &Path) -> Result<(), Refused> {
        process::check(OsStr::new(PROGRAM), &["-t", "-c"], staged).await
    }

    /// Lets the master load its file. When it refuses the file, the old workers go on.
    pub async fn load(&self, master: Pid, process: Option<&Process>) -> Result<(), Refused> {
        let before = nginx::workers(master);
        let begun = Instant::now();
        // A check takes its time: another process may have the number by now.
        if !nginx::is_nginx(master) {
            return Err(ended().into());
        }
        kill_process(master, Signal::HUP).map_err(|error| may_not_signal(master, error))?;
        while begun.elapsed() < LIMIT {
            sleep(PAUSE).await;
            let workers = nginx::workers(master);
            let is_known =
                |worker: &i32| before.current.contains(worker) || before.old.contains(worker);
            if workers.current.iter().any(|worker| !is_known(worker)) {
                return Ok(());
            }
            if !nginx::is_nginx(master) {
                return Err(ended().into());
            }
        }
        let lines = process.map(|process| process.lines_since(begun));
        let lines = lines.unwrap_or_default();
        let errors = lines.iter().filter(|line| line.contains("[emerg]"));
        let errors: Vec<String> = errors.cloned().collect();
        Err(Refused::Bad(match (errors.is_empty(), lines.is_empty()) {
            (false, _) => errors,
            (true, false) => lines,
            (true, true) => vec!["nginx has no new workers; its error log says why".to_owned()],
        }))
    }

    fn quoted(&self) -> String {
        quote(&self.pid_file.display().to_string())
    }
}

fn ended() -> anyhow::Error {
    anyhow!("nginx ended before it had loaded its file")
}

fn may_not_signal(master: Pid, error: Errno) -> anyhow::Error {
    if error == Errno::SRCH {
        return ended();
    }
    anyhow!(
        "nginx's process {} cannot be sent a signal: {error}; run as root or as the user of nginx",
        master.as_raw_nonzero()
    )
}
