//! `docker-register` keeps a store in step with the containers that run on a Docker host.
//!
//! ```text
//! docker daemon ─> feed ─snapshots─> script: docker.watch() ─policy─ etcd.sync() ─wanted─> plan ─changes─> store
//! ```
//!
//! The source is in rooms; `ARCHITECTURE.md` has their table, and the walk of a container through them.
//!
//! Three laws, kept by `tests/rooms`: roles never import each other; `policy/sandbox`, `docker`, `store`, `ops` and
//! `base` import no role; no room imports another in a circle.
//!
//! A policy decides which keys should exist; Rust puts and deletes them. An error is never an empty list: when
//! Docker's containers or etcd's keys cannot be read, nothing is deleted.

mod base;
mod checks;
mod cli;
mod commands;
mod container;
mod discover;
mod docker;
mod ops;
mod policy;
mod register;
mod routes;
mod store;
mod wanted;

/// Single steps between Docker and etcd, each measured alone by `benches/micro.rs`.
#[doc(hidden)]
pub mod steps {
    pub use crate::container::steps::Reading;
    pub use crate::policy::steps::Deciding;
    pub use crate::register::plan::steps::Planning;
}

use std::io::{ErrorKind, Write as _, stderr, stdout};
use std::process::ExitCode;

use tokio::runtime::Builder;
use tracing::warn;

use cli::Cli;
use ops::log;

/// The program, from its arguments to its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let _last_lines = LastLines;
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run());
            // A host name lookup cannot be cancelled, and must not delay the exit.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            let _ = writeln!(stderr(), "error: cannot start a thread: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> ExitCode {
    let cli = Cli::parse_or_exit(std::env::args_os());
    let recent = cli.log().map(|settings| {
        let recent = log::start(settings, cli.is_daemon());
        for unknown in cli::unknown_variables(std::env::vars_os()) {
            warn!("{unknown}");
        }
        recent
    });
    let command = cli.check_or_exit();
    let out = &mut stdout();
    match command.run(recent.unwrap_or_default(), out).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader of stdout has closed the pipe.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            log::print(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Flushes the log when it is dropped, also after a panic.
struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        log::flush();
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
