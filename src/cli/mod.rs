//! The command line and its environment: turns arguments and variables into each command's settings. Only this room
//! uses clap.

mod choice;
mod discover;
mod documents;
mod environment;
mod flags;
mod leases;
mod run;
mod store;
mod up;
mod uri;
mod value;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{FalseyValueParser, PossibleValue};
use clap::error::ErrorKind;
use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::{self, diff, keys, services, test};
use crate::ops::log;
use crate::store::Settings;
use discover::{DiscoverArgs, RoutingArgs};
use flags::{HostArgs, LogArgs, OptionArgs};
use leases::{ForgetArgs, LeasesArgs};
use run::RunArgs;
use up::UpArgs;

pub use environment::unknown as unknown_variables;

/// The short help's line about the environment. There is no room for the names beside the flags.
const SHORT: &str = "Most flags can be set in the environment: --log-level as DOCKER_REGISTER_LOG_LEVEL; \
    see --help.";

const MORE: &str = "\
DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH are read as Docker's own client reads them. In STATE_DIRECTORY,
`run` remembers Docker's id, so that it can renew its keys if it starts while Docker is away.

Exit status: 0 for success; 1 for a failure or a difference; 2 for wrong usage.";

/// Keeps etcd or Redis in step with the containers that run on this Docker host.
///
/// The default command is `run`; see `docker-register run --help`. The policy, a Lua script, decides which containers
/// are registered, and under which keys.
#[derive(Debug, Parser)]
#[command(
    name = "docker-register",
    version = env!("VERSION_AND_COMMIT"),
    override_usage = "docker-register [COMMAND] [OPTIONS]",
    max_term_width = 100,
    after_long_help = MORE
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Keep the store in step with this host's containers
    Run(RunArgs),
    /// Route to the services that are registered, with a proxy on this host
    ///
    /// Starts HAProxy, nginx or Envoy, or uses one that runs. The policy, a Lua script, decides where each service is reached. Every
    /// service is reached at the same address on every host: by default, at the port that its containers expose, on
    /// 127.0.0.1 and on Docker's bridge.
    Discover(Box<DiscoverArgs>),
    /// Run both roles in one process: register, and route
    ///
    /// Without a store (`--store`, `--etcd`, `ETCD_HOST`), the keys are in this process alone, and the services are those of
    /// this host; `--store memory:` says the same. It needs Docker and the proxy, and nothing else.
    Up(Box<UpArgs>),
    /// Print the registered services of all hosts, and exit
    Services(ServicesArgs),
    /// Print the keys for the containers, and exit
    ///
    /// Exits with 1 if the policy failed for a container; the keys of the others are still printed.
    Keys(KeysArgs),
    /// Compare the keys in the store with those that should be there, and exit
    ///
    /// Writes nothing, so it may run beside the registrar. Exits with 1 if they differ.
    Diff(DiffArgs),
    /// Print the registrars of all hosts, by their leases, and exit
    ///
    /// Each line is a lease of a registrar's own keys: its TTL, the seconds left, the number of its keys, the addresses
    /// in their values, and whether its registrar runs. One that was killed is shown as running for up to a minute.
    Leases(LeasesArgs),
    /// End the lease of a dead host, which removes its keys
    ///
    /// Asks first. If the registrar still runs, it puts its keys again. The keys that hosts share stay until no host
    /// renews them.
    Forget(ForgetArgs),
    /// Run policy tests written in Lua
    ///
    /// Each file runs in a Lua state of its own. Exits with 1 if a test fails.
    Test(TestArgs),
    /// Ask the registrar on this host whether it is ready
    ///
    /// Prints the answer of `/readyz`, and exits with 1 if it is not ready.
    Healthcheck(HealthcheckArgs),
    /// Print the editor types of the Lua API, for lua-language-server
    Types,
    /// Print the completions of this command line for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, for `man -l -`
    Man,
}

/// The flags of `keys`.
#[derive(Debug, Args)]
struct KeysArgs {
    /// Read saved `docker inspect` output; `-` is standard input
    ///
    /// Docker is not contacted.
    #[arg(long, value_name = "FILE")]
    containers: Option<PathBuf>,

    /// The format of the printed keys
    #[arg(long, value_enum, default_value_t = keys::Format::Text)]
    format: keys::Format,

    /// Print on stderr why a container or port is left out, and checks
    #[arg(long, env = "DOCKER_REGISTER_EXPLAIN", value_parser = FalseyValueParser::new())]
    explain: bool,

    /// Make each active check once, and leave out keys that fail
    ///
    /// The checks that do not pass are printed on stderr.
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    host: HostArgs,
}

/// The flags of `services`.
#[derive(Debug, Args)]
struct ServicesArgs {
    /// The format of the printed services
    #[arg(long, value_enum, default_value_t = services::Format::Text)]
    format: services::Format,

    /// Print them again whenever they change
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    routing: RoutingArgs,
}

/// The flags of `diff`.
#[derive(Debug, Args)]
struct DiffArgs {
    /// The format of the printed differences
    #[arg(long, value_enum, default_value_t = diff::Format::Text)]
    format: diff::Format,

    /// Make each active check once: keys that fail should not exist
    ///
    /// Without it, a missing key with a check is printed as `unproven`, and is no difference.
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    host: HostArgs,
}

/// The flags of `test`.
#[derive(Debug, Args)]
struct TestArgs {
    /// The files with the tests
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    options: OptionArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// The flags of `healthcheck`.
#[derive(Debug, Args)]
struct HealthcheckArgs {
    /// The address that `run` listens on
    #[arg(long, env = "DOCKER_REGISTER_LISTEN", value_name = "IP:PORT")]
    listen: SocketAddr,
}

/// The argument of `completions`.
#[derive(Debug, Args)]
struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// A contradiction between flags, as clap reports it.
type Wrong = (ErrorKind, String);

impl Cli {
    /// Parses the arguments. Prints usage and exits with 2 if they are wrong. Without a command, the flags are those
    /// of `run`.
    pub fn parse_or_exit(arguments: impl IntoIterator<Item = OsString>) -> Self {
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

    /// Whether the command runs until a signal ends it.
    pub fn is_daemon(&self) -> bool {
        match &self.command {
            Command::Run(_) | Command::Up(_) => true,
            Command::Discover(args) => args.is_daemon(),
            _ => false,
        }
    }

    /// The settings of the log; none for a command that only prints.
    pub fn log(&self) -> Option<log::Settings> {
        let args = match &self.command {
            Command::Run(args) => &args.host.log,
            Command::Discover(args) => args.log(),
            Command::Up(args) => &args.host.log,
            Command::Services(args) => &args.routing.log,
            Command::Keys(args) => &args.host.log,
            Command::Diff(args) => &args.host.log,
            Command::Leases(args) => &args.log,
            Command::Forget(args) => &args.log,
            Command::Test(args) => &args.log,
            Command::Healthcheck(_) | Command::Types | Command::Completions(_) | Command::Man => {
                return None;
            }
        };
        Some(args.check())
    }

    /// Checks the flags against one another. Prints usage and exits with 2 if they contradict one another.
    pub fn check_or_exit(self) -> commands::Command {
        self.command.check().unwrap_or_else(|(kind, message)| {
            log::flush();
            Self::command().error(kind, message).exit()
        })
    }
}

impl KeysArgs {
    fn check(self) -> Result<keys::Settings, Wrong> {
        let host = self.host.check()?;
        if self.format == keys::Format::Etcdctl && !matches!(host.store, Settings::Etcd(_)) {
            let message = format!(
                "--format etcdctl is for etcd, and not for {}",
                host.store.name()
            );
            return Err((ErrorKind::ArgumentConflict, message));
        }
        Ok(keys::Settings {
            host,
            containers: self.containers,
            format: self.format,
            explain: self.explain,
            check: self.check,
        })
    }
}

impl Command {
    fn check(self) -> Result<commands::Command, Wrong> {
        Ok(match self {
            Self::Run(args) => commands::Command::Run(args.check()?),
            Self::Discover(args) => args.check()?,
            Self::Up(args) => commands::Command::Up(Box::new(args.check()?)),
            Self::Services(args) => commands::Command::Services(services::Settings {
                format: args.format,
                watch: args.watch,
                routing: args.routing.check_alone()?,
            }),
            Self::Keys(args) => commands::Command::Keys(args.check()?),
            Self::Diff(args) => commands::Command::Diff(diff::Settings {
                host: args.host.check()?,
                format: args.format,
                check: args.check,
            }),
            Self::Leases(args) => commands::Command::Leases(args.check()?),
            Self::Forget(args) => commands::Command::Forget(args.check()?),
            Self::Test(args) => commands::Command::Test(test::Settings {
                files: args.files,
                options: args.options.check(),
            }),
            Self::Healthcheck(args) => commands::Command::Healthcheck(args.listen),
            Self::Types => commands::Command::Types,
            Self::Completions(args) => {
                commands::Command::Completions(documents::completions(args.shell))
            }
            Self::Man => commands::Command::Man(documents::manual),
        })
    }
}

/// clap's definitions. The short help has one line for each flag, so it leaves out the names of variables.
fn definitions(short: bool) -> clap::Command {
    Cli::command().mut_subcommands(move |command| shaped(command, short))
}

fn shaped(command: clap::Command, short: bool) -> clap::Command {
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
    let has_variables = command.get_arguments().any(|flag| flag.get_env().is_some());
    let command = command.mut_args(flag);
    let command = command.mut_subcommands(move |command| shaped(command, short));
    if short && has_variables {
        command.after_help(SHORT)
    } else {
        command
    }
}

#[cfg(test)]
mod tests;
