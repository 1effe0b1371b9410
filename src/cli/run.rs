//! The flags of `run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::Wrong;
use super::flags::HostArgs;
use crate::register::{Mode, OnExit, Settings};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Print each change and write nothing; no store is needed
    #[arg(long, env = "DOCKER_REGISTER_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,

    /// The fate of the keys at exit
    #[arg(long, env = "DOCKER_REGISTER_ON_EXIT", value_enum, default_value_t = OnExit::Leave)]
    pub on_exit: OnExit,

    /// The time between two lists of all containers
    ///
    /// Finds changes whose event Docker dropped. Containers whose list entry has changed are inspected; every tenth
    /// time, all are.
    #[arg(long, env = "DOCKER_REGISTER_RESYNC", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub resync: u32,

    /// Serve metrics, health checks and a status page on this address
    ///
    /// The paths are `/metrics`, `/healthz`, `/readyz` and `/`. There is no authentication.
    #[arg(long, env = "DOCKER_REGISTER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,

    /// While this file exists, remove the keys of the containers in it
    ///
    /// Each line is a name, or an id of 12 digits or more. An empty file means all containers. Without the file, the keys
    /// come back.
    #[arg(long, env = "DOCKER_REGISTER_DRAIN_FILE", value_name = "PATH")]
    pub drain_file: Option<PathBuf>,

    /// Log why a container or port is left out
    #[arg(long, env = "DOCKER_REGISTER_EXPLAIN", value_parser = FalseyValueParser::new())]
    pub explain: bool,

    #[command(flatten)]
    pub host: HostArgs,
}

/// The first of the directories that systemd gives for `StateDirectory=`, with colons between them.
pub(super) fn state_directory() -> Option<PathBuf> {
    let all = std::env::var_os("STATE_DIRECTORY")?;
    let first = std::env::split_paths(&all).next()?;
    (!first.as_os_str().is_empty()).then_some(first)
}

impl RunArgs {
    pub(super) fn check(self) -> Result<Settings, Wrong> {
        Ok(Settings {
            host: self.host.check()?,
            mode: if self.dry_run {
                Mode::DryRun
            } else {
                Mode::Write(self.on_exit)
            },
            resync: Duration::from_secs(u64::from(self.resync)),
            explain: self.explain,
            listen: self.listen,
            state_directory: state_directory(),
            drain_file: self.drain_file,
        })
    }
}
