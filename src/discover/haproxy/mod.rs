//! `HAProxy`'s run-time language, on its two sockets: the state of its servers, changes of them without a reload, and
//! the reload. It knows nothing of configuration files. Facts about versions were seen on 2.6.12, 2.8, 3.0 and 3.2.

mod change;
mod dialogue;
mod failure;
mod reload;
mod running;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod version;
mod workers;

use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

pub use change::{Change, Refusal};
pub use running::{Health, Running, RunningServer};
pub use version::Version;

use super::refused::Refused;
use crate::base::text::quote;
use crate::routes::Servers;
use workers::Workers;

/// The longest silence of a socket.
const LIMIT: Duration = Duration::from_secs(2);

/// The Unix sockets of one `HAProxy`.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// The worker's: `stats socket` with `level admin`.
    pub stats: PathBuf,
    /// The master's: `haproxy -W -S …`. Needed for reloads alone.
    pub master: Option<PathBuf>,
}

/// A running `HAProxy`. Each call opens a connection of its own, because a reload ends the process at its other end.
#[derive(Debug, Clone)]
pub struct Haproxy {
    sockets: Sockets,
}

impl Haproxy {
    pub fn new(sockets: Sockets) -> Self {
        Self { sockets }
    }

    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// The worker's version.
    pub async fn version(&self) -> anyhow::Result<Version> {
        let [info] = self.ask(["show info"]).await?;
        Version::of_info(&info).ok_or_else(|| self.is_strange(&info))
    }

    /// All servers, and whether frontends accept connections.
    pub async fn running(&self) -> anyhow::Result<Running> {
        let [state, stat] = self.ask(["show servers state", "show stat"]).await?;
        Running::read(&state, &stat).map_err(|strange| self.is_strange(strange))
    }

    /// The known running state, with these servers read anew. Somebody else's change of any others is not seen.
    pub async fn running_again(
        &self,
        known: &Running,
        servers: &[&Servers],
    ) -> anyhow::Result<Running> {
        let mut lines = Vec::new();
        for servers in servers {
            let backend = change::name(&servers.backend).map_err(anyhow::Error::msg)?;
            let frontend = servers.frontend.as_deref().unwrap_or(backend);
            let frontend = change::name(frontend).map_err(anyhow::Error::msg)?;
            lines.push(format!("show servers state {backend}"));
            // Of all kinds: the frontend, the backend and its servers.
            lines.push(format!("show stat {backend} 7 -1"));
            lines.push(format!("show stat {frontend} 1 -1"));
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answers = dialogue::with_worker(&self.sockets.stats, &lines).await?;
        let mut running = known.clone();
        for (servers, answers) in servers.iter().zip(answers.chunks(3)) {
            let [state, stat, of_frontend] = answers else {
                break;
            };
            let newer = Running::read_one(state, stat, of_frontend);
            running.replace(servers, newer.map_err(|strange| self.is_strange(strange))?);
        }
        Ok(running)
    }

    /// Makes changes, in order, and returns those that `HAProxy` did not confirm. A refused one does not stop the rest.
    /// After an error, any part of them may have been made.
    pub async fn carry_out(&self, changes: &[Change]) -> anyhow::Result<Vec<Refusal>> {
        let mut refusals = Vec::new();
        let mut steps = Vec::new();
        for change in changes {
            match change.steps() {
                Ok(its) => steps.extend(its.into_iter().map(|step| (change, step))),
                Err(why) => refusals.push(Refusal::new(change, why)),
            }
        }
        if steps.is_empty() {
            return Ok(refusals);
        }
        let lines: Vec<&str> = steps.iter().map(|(_, step)| &*step.line).collect();
        let answers = dialogue::with_worker(&self.sockets.stats, &lines).await?;
        let mut last = None;
        for ((change, step), answer) in steps.iter().zip(answers) {
            // The later steps of a change fail because of an earlier one.
            let is_known = last.is_some_and(|last| ptr::eq(last, *change));
            if !step.confirms(&answer) && !is_known {
                refusals.push(Refusal::new(change, answer));
                last = Some(*change);
            }
        }
        Ok(refusals)
    }

    /// Writes `load-server-state-from-file`'s file: health, weights and maintenance, which a reload would forget. Only
    /// servers for which `holds(backend, server)` is true are kept, because an address in this file beats the one in
    /// the configuration.
    pub async fn write_state(
        &self,
        path: &Path,
        holds: impl Fn(&str, &RunningServer) -> bool,
    ) -> anyhow::Result<()> {
        let [state, stat] = self.ask(["show servers state", "show stat"]).await?;
        let text = running::state_file(&state, &stat, holds);
        let text = text.map_err(|strange| self.is_strange(strange))?;
        let named = || format!("cannot write {}", quote(&path.display().to_string()));
        fs::write(path, text).with_context(named)
    }

    /// Loads the configuration anew, and returns when the new worker runs. When it is refused, the old one goes on.
    pub async fn reload(&self) -> Result<(), Refused> {
        reload::by_master(self.master()?).await
    }

    /// The processes.
    pub async fn workers(&self) -> anyhow::Result<Workers> {
        workers::of_master(self.master()?).await
    }

    async fn ask<const N: usize>(&self, lines: [&str; N]) -> anyhow::Result<[String; N]> {
        let answers = dialogue::with_worker(&self.sockets.stats, &lines).await?;
        let count = answers.len();
        answers
            .try_into()
            .map_err(|_| anyhow!("{count} answers to {N} commands"))
    }

    fn master(&self) -> anyhow::Result<&Path> {
        let no_socket = || {
            anyhow!(
                "HAProxy's master socket is not known; start HAProxy with `-W -S SOCKET`, and pass the same to \
                 `--master-socket`"
            )
        };
        self.sockets.master.as_deref().ok_or_else(no_socket)
    }

    /// The error for an answer that no known `HAProxy` gives.
    fn is_strange(&self, answer: &str) -> anyhow::Error {
        failure::strange(&self.sockets.stats, answer)
    }
}
