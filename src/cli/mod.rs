//! What a user can type, and the environment that stands for it.

mod choice;
mod documents;
mod environment;
mod etcd;
mod value;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValue};
use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::docker::Filters;
use etcd::EtcdArgs;

pub use choice::{DiffFormat, KeysFormat, LogFormat, LogLevel, OnExitArg};
pub use documents::{completions, manual};
pub use environment::unknown as unknown_variables;

/// The heading of the flags that decide what is registered, and how.
const POLICY: &str = "Policy";

/// What the short help says of the environment, for its lines have no room for the names.
const SHORT: &str = "In the environment, a flag such as --log-level is DOCKER_REGISTER_LOG_LEVEL; \
    --help tells each name.";

/// What no flag is a place for.
const MORE: &str = "\
DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH are read as Docker's own client reads them.

Exit status: 0; 1 for a failure or a difference; 2 for wrong usage.";

/// Keeps etcd in step with the containers that run on this Docker host.
///
/// Without a command it is `run`; see `docker-register run --help`. The policy, which decides what is registered
/// and under which keys, is a Lua script.
#[derive(Debug, Parser)]
#[command(
    name = "docker-register",
    version = env!("VERSION_AND_COMMIT"),
    override_usage = "docker-register [COMMAND] [OPTIONS]",
    max_term_width = 100,
    after_long_help = MORE
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep etcd in step with this host's containers
    Run(RunArgs),
    /// Print the keys for the containers, and exit
    ///
    /// Exits with 1 if the policy failed for a container; the others are printed all the same.
    Keys(KeysArgs),
    /// Compare what etcd has with what it should have, and exit
    ///
    /// It writes nothing, so it may run beside the registrar that it looks after. Exits with 1 if they differ.
    Diff(DiffArgs),
    /// Run policy tests written in Lua
    ///
    /// Each file is run by itself. Exits with 1 if a test fails.
    Test(TestArgs),
    /// Ask the registrar beside it whether it is ready
    ///
    /// Prints what `/readyz` says, and exits with 1 if it is not ready.
    Healthcheck(HealthcheckArgs),
    /// Print the editor types of the Lua API, for lua-language-server
    Types,
    /// Print a shell's completions of this command line
    Completions(CompletionsArgs),
    /// Print the manual page, for `man -l -`
    Man,
}

/// The flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Print each change and write nothing; etcd is not needed
    #[arg(long, env = "DOCKER_REGISTER_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,

    /// What becomes of the keys at exit
    #[arg(long, env = "DOCKER_REGISTER_ON_EXIT", value_enum, default_value_t = OnExitArg::Leave)]
    pub on_exit: OnExitArg,

    /// How often all containers are listed again
    ///
    /// It finds what Docker never told of, for Docker may drop an event. Those that are listed otherwise than they are
    /// known are inspected, and each tenth time all of them.
    #[arg(long, env = "DOCKER_REGISTER_RESYNC", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub resync: u32,

    /// Serve metrics, health and a page for people on this address
    ///
    /// They are `/metrics`, `/healthz`, `/readyz` and `/`, and whoever asks is answered.
    #[arg(long, env = "DOCKER_REGISTER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,

    /// Say in the log what is left out, and why
    #[arg(long, env = "DOCKER_REGISTER_EXPLAIN", value_parser = FalseyValueParser::new())]
    pub explain: bool,

    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Read saved `docker inspect` output; `-` is standard input
    ///
    /// Docker is not asked then.
    #[arg(long, value_name = "FILE")]
    pub containers: Option<PathBuf>,

    /// How the keys are printed
    #[arg(long, value_enum, default_value_t = KeysFormat::Text)]
    pub format: KeysFormat,

    /// Say on stderr what is left out, and why
    #[arg(long, env = "DOCKER_REGISTER_EXPLAIN", value_parser = FalseyValueParser::new())]
    pub explain: bool,

    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// How the differences are printed
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,

    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The files with the tests
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub options: OptionArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// The flags of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The address that `run` was told to listen on
    #[arg(long, env = "DOCKER_REGISTER_LISTEN", value_name = "IP:PORT")]
    pub listen: SocketAddr,
}

/// What `completions` is given.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// The flags of all commands that look at containers.
#[derive(Debug, Args)]
pub struct CommonArgs {
    #[command(flatten)]
    pub etcd: EtcdArgs,

    /// A file, or the name of a bundled policy [default: register]
    #[arg(
        long,
        env = "DOCKER_REGISTER_SCRIPT",
        value_name = "FILE",
        help_heading = POLICY
    )]
    pub script: Option<PathBuf>,

    /// Only containers that `docker ps --filter` would show
    ///
    /// It may be given several times, in the environment one a line.
    #[arg(long, env = "DOCKER_REGISTER_FILTER", help_heading = POLICY, value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = value::pair)]
    pub filter: Vec<(String, String)>,

    #[command(flatten)]
    pub options: OptionArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// What a policy reads in `options`.
#[derive(Debug, Args)]
#[command(next_help_heading = POLICY)]
pub struct OptionArgs {
    /// The address at which others reach this host
    ///
    /// Without it, it is the address from which this host reaches etcd, unless that is loopback.
    #[arg(long, env = "HOST_IP", value_name = "ADDRESS")]
    pub host_ip: Option<IpAddr>,

    /// What every key begins with
    #[arg(long, env = "DOCKER_REGISTER_PREFIX", default_value = "/backends", value_parser = value::prefix)]
    pub prefix: String,

    /// How long keys outlive a registrar that dies
    #[arg(long, env = "DOCKER_REGISTER_TTL", value_name = "SECONDS", default_value_t = 60, value_parser = value::ttl)]
    pub ttl: u32,

    /// What the policy reads as `options.NAME`
    ///
    /// It may be given several times, in the environment one a line.
    #[arg(long, env = "DOCKER_REGISTER_SET", value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = value::setting)]
    pub set: Vec<(String, String)>,

    /// Tells several registrars of one Docker daemon apart
    #[arg(
        long,
        env = "DOCKER_REGISTER_INSTANCE",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub instance: String,
}

/// The flags of the log.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// How log lines look
    #[arg(long, env = "DOCKER_REGISTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// The least weight of what is logged
    #[arg(long, env = "DOCKER_REGISTER_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

impl Cli {
    /// Reads the arguments; prints usage and exits with 2 where they are wrong. Without a command, all flags are those
    /// of `run`.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut arguments: Vec<OsString> = arguments.into_iter().collect();
        let first = arguments
            .get(1)
            .map(|first| first.to_string_lossy().into_owned());
        let of_run = match first.as_deref() {
            None => true,
            Some("-h" | "--help" | "-V" | "--version") => false,
            Some(first) => first.starts_with('-'),
        };
        if of_run {
            arguments.insert(arguments.len().min(1), "run".into());
        }
        let short = arguments.iter().any(|argument| argument == "-h");
        let matches = definitions(short).get_matches_from(arguments);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The command line as clap has it. The short help has one line for each flag, so it is without the environment.
fn definitions(short: bool) -> clap::Command {
    let flag = move |flag: Arg| {
        let values = flag.get_possible_values();
        let names: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
        let flag = if names.is_empty() || !flag.get_action().takes_values() || flag.is_positional()
        {
            flag
        } else {
            let names = names.join("|");
            flag.value_name(names).hide_possible_values(short)
        };
        flag.hide_env(short)
    };
    Cli::command().mut_subcommands(|command| {
        let has_variables = command.get_arguments().any(|flag| flag.get_env().is_some());
        let command = command.mut_args(flag);
        if short && has_variables {
            command.after_help(SHORT)
        } else {
            command
        }
    })
}

impl Command {
    /// The flags of the log; what only prints has none.
    pub fn log(&self) -> Option<&LogArgs> {
        match self {
            Self::Run(args) => Some(&args.common.log),
            Self::Keys(args) => Some(&args.common.log),
            Self::Diff(args) => Some(&args.common.log),
            Self::Test(args) => Some(&args.log),
            Self::Healthcheck(_) | Self::Types | Self::Completions(_) | Self::Man => None,
        }
    }
}

impl RunArgs {
    /// `--resync` as a time.
    pub fn resync(&self) -> Duration {
        Duration::from_secs(u64::from(self.resync))
    }
}

impl CommonArgs {
    /// `--filter` as Docker takes it: the values of each name.
    pub fn filters(&self) -> Filters {
        let mut filters: Filters = HashMap::new();
        for (name, value) in self.filter.iter().filter(|(name, _)| !name.is_empty()) {
            filters.entry(name.clone()).or_default().push(value.clone());
        }
        filters
    }
}

impl OptionArgs {
    /// `--set`, without empty lines.
    pub fn settings(&self) -> Vec<(String, String)> {
        self.set
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests;
