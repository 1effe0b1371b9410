//! `docker-register` keeps etcd in step with the containers that run on a Docker host.
//!
//! ```text
//! docker daemon ─> feed ─snapshots─> script: docker.watch() ─policy─ etcd.sync() ─wanted─> plan ─changes─> store
//! ```
//!
//! | module | purpose |
//! | --- | --- |
//! | `cli` | what a user can type |
//! | `daemon` | `run`: joins the feed, the script and the store |
//! | `docker`, `container` | the feed: Docker's containers as whole snapshots |
//! | `roll` | one of each container, copied and compared at the cost of what changes |
//! | `lua` | the policy: sandbox, bindings, and the memory of what each container last asked for |
//! | `entry` | what a policy asks for, and what a legal key is |
//! | `plan` | pure: held and wanted → changes |
//! | `keeper` | the one task that owns the store, and what renews leases while a script does not let go |
//! | `store` | leases and transactions; etcd, and a store that only prints |
//! | `address`, `deadline`, `file`, `trouble` | this host's address; bounds in time; files; what is wrong, said once |
//! | `status`, `metrics` | what a running registrar shows of itself |
//! | `listen`, `systemd`, `log` | to whom: HTTP, the service manager, the log |
//! | `commands` | what does one thing and exits |
//! | `steps` | parts of the way, for `make bench` to measure each by itself |
//!
//! Policies say what should exist; Rust makes it so. An error is never an empty list: whoever cannot tell what runs
//! or what is held says nothing, and nothing is deleted.

mod base;
mod cli;
mod commands;
mod container;
mod docker;
mod ops;
mod policy;
mod register;
mod store;
mod wanted;

/// Single steps on the way from Docker to etcd, for `benches/micro.rs` to measure each without the others.
#[doc(hidden)]
pub mod steps {
    pub use crate::container::steps::Reading;
    pub use crate::register::steps::{Deciding, Planning};
}

use std::io::{ErrorKind, Write as _, stderr, stdout};
use std::process::ExitCode;

use tokio::runtime::Builder;
use tracing::warn;

use cli::{Cli, Command, CommonArgs, DiffFormat, OptionArgs};
use ops::log;
use policy::Options;
use register::run::{self as daemon, Asked};

/// The program, from its arguments to its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let _last_lines = LastLines;
    // From an event to its keys all is done on this thread, for waking another one takes longer than most of the steps.
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run());
            // A look-up of a host's name, which nothing can stop, must not hold up the end.
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
    let command = Cli::read(std::env::args_os()).command;
    let is_daemon = matches!(command, Command::Run(_));
    let recent = command
        .log()
        .map(|args| log::start(args, is_daemon))
        .unwrap_or_default();
    if command.log().is_some() {
        for unknown in cli::unknown_variables(std::env::vars_os()) {
            warn!("{unknown}");
        }
    }
    let out = &mut stdout();
    let result = match command {
        Command::Run(args) => daemon::run(run_config(args), recent).await.map(|()| true),
        Command::Keys(args) => {
            let (containers, explain) = (args.containers, args.explain);
            let format = args.format.into();
            commands::keys::run(asked(args.common), containers, format, explain, out).await
        }
        Command::Diff(args) => {
            let as_json = matches!(args.format, DiffFormat::Json);
            commands::diff::run(asked(args.common), as_json, out).await
        }
        Command::Test(args) => commands::test::run(&args.files, options(&args.options), out),
        Command::Healthcheck(args) => commands::healthcheck::run(args.listen, out).await,
        Command::Types => commands::types::run(out).map(|()| true),
        Command::Completions(args) => cli::completions(args.shell, out).map(|()| true),
        Command::Man => cli::manual(out).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read our output has had enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            log::print(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Writes the last lines of the log at the end, also where a panic is the end.
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

fn run_config(args: cli::RunArgs) -> daemon::Config {
    daemon::Config {
        resync: args.resync(),
        on_exit: args.on_exit.into(),
        dry_run: args.dry_run,
        explain: args.explain,
        listen: args.listen,
        asked: asked(args.common),
    }
}

fn asked(args: CommonArgs) -> Asked {
    Asked {
        host_ip_given: args.options.host_ip.is_some(),
        options: options(&args.options),
        filters: args.filters(),
        etcd: args.etcd.access(),
        script: args.script,
    }
}

fn options(args: &OptionArgs) -> Options {
    Options {
        prefix: args.prefix.clone(),
        ttl: args.ttl,
        host_ip: args.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        instance: args.instance.clone(),
        set: args.settings(),
    }
}
