//! The flags of `discover` and `services`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{Args, Subcommand};

use super::Wrong;
use super::flags::{LogArgs, POLICY, not_empty};
use super::store::StoreArgs;
use super::value;
use crate::commands::{Command, files};
use crate::discover::{
    Commands, Mode, OnExit, Proxy, ProxySettings, RoutingSettings, STATE_FILE, Settings, Sockets,
    Starter,
};
use crate::policy::RoutingOptions;

/// The heading of the flags about the proxy.
const PROXY: &str = "Proxy";
/// The names of our own proxy's sockets, below the directory.
const OWN_SOCKETS: [&str; 2] = ["admin.sock", "master.sock"];
/// The longest path of a Unix socket, in bytes (`sun_path`).
const LONGEST_SOCKET: usize = 107;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DiscoverArgs {
    #[command(subcommand)]
    pub action: Option<Action>,

    /// Print the files and the run-time commands, and change nothing
    #[arg(long, env = "DOCKER_REGISTER_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,

    /// The fate of our own proxy at exit
    #[arg(long, value_enum, default_value_t = OnExit::Stop)]
    pub on_exit: OnExit,

    /// The time between two listings of all keys
    ///
    /// Finds changes that the store's watch lost, and tries addresses again that were taken.
    #[arg(long, env = "DOCKER_REGISTER_RESYNC", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub resync: u32,

    /// Serve metrics, health checks and a status page on this address
    ///
    /// The paths are `/metrics`, `/healthz`, `/readyz` and `/`. There is no authentication.
    #[arg(long, env = "DOCKER_REGISTER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,

    /// Log why a service, a server or a key is left out
    #[arg(long, env = "DOCKER_REGISTER_EXPLAIN", value_parser = FalseyValueParser::new())]
    pub explain: bool,

    /// The admin socket of a HAProxy that somebody else starts
    ///
    /// Such a HAProxy is never started or stopped, and loads the files in the directory.
    #[arg(long, value_name = "PATH", help_heading = PROXY, value_parser = value::path)]
    pub socket: Option<PathBuf>,

    /// The master socket of a HAProxy that somebody else starts
    #[arg(long, value_name = "PATH", help_heading = PROXY, requires = "socket", value_parser = value::path)]
    pub master_socket: Option<PathBuf>,

    /// The shortest time between two reloads
    #[arg(long, value_name = "SECONDS", default_value_t = 2, help_heading = PROXY)]
    pub reload_interval: u32,

    /// The time for a removed server's open connections
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = PROXY)]
    pub drain: u32,

    /// Do not try new addresses before the proxy gets them
    ///
    /// For a proxy in another network namespace than this program.
    #[arg(long, help_heading = PROXY)]
    pub no_probe: bool,

    #[command(flatten)]
    pub routing: RoutingArgs,

    /// The command that runs the proxy [default: haproxy]
    ///
    /// It stays in the foreground, reads `haproxy.cfg` in the directory, and has its master's socket there:
    /// `master.sock`.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The flags of every command that makes routes.
#[derive(Debug, Args)]
pub struct RoutingArgs {
    #[command(flatten)]
    pub store: StoreArgs,

    /// The policy: a file, or the name of a bundled one [default: discover]
    #[arg(long, env = "DOCKER_REGISTER_DISCOVER_SCRIPT", value_name = "FILE", help_heading = POLICY)]
    pub script: Option<PathBuf>,

    /// The beginning of every key
    #[arg(long, env = "DOCKER_REGISTER_PREFIX", default_value = "/backends", help_heading = POLICY, value_parser = value::prefix)]
    pub prefix: String,

    /// A setting of the policy, which it reads as `options.NAME`
    ///
    /// May be passed several times; in the environment, one per line.
    #[arg(long, env = "DOCKER_REGISTER_DISCOVER_SET", value_name = "NAME=VALUE", value_delimiter = '\n', help_heading = POLICY, value_parser = value::setting)]
    pub set: Vec<(String, String)>,

    /// The directory of its files
    ///
    /// The policy makes them, and HAProxy reads them.
    #[arg(long, env = "DOCKER_REGISTER_DIRECTORY", value_name = "DIR", default_value = "/var/lib/docker-register", help_heading = PROXY, value_parser = value::path)]
    pub directory: PathBuf,

    #[command(flatten)]
    pub log: LogArgs,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print the files that `discover` would make, and exit
    Files(FilesArgs),
}

/// The flags of `files`.
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// Read saved keys; `-` is standard input
    ///
    /// As `docker-register keys` or `etcdctl get --prefix` prints them. The store is not contacted.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,

    /// Print on stderr why a service, a server or a key is left out
    #[arg(long, env = "DOCKER_REGISTER_EXPLAIN", value_parser = FalseyValueParser::new())]
    pub explain: bool,

    #[command(flatten)]
    pub routing: RoutingArgs,
}

impl DiscoverArgs {
    pub(super) fn is_daemon(&self) -> bool {
        self.action.is_none()
    }

    pub(super) fn log(&self) -> &LogArgs {
        match &self.action {
            Some(Action::Files(args)) => &args.routing.log,
            None => &self.routing.log,
        }
    }

    pub(super) fn check(self) -> Result<Command, Wrong> {
        match self.action {
            Some(Action::Files(args)) => {
                let socket = args.routing.own_socket();
                Ok(Command::Files(files::Settings {
                    keys: args.keys,
                    explain: args.explain,
                    routing: args.routing.check(socket)?,
                }))
            }
            None => self.settings().map(Command::Discover),
        }
    }

    fn settings(self) -> Result<Settings, Wrong> {
        let proxy = self.proxy()?;
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let stats = match &proxy.proxy {
            Proxy::Haproxy(sockets) => sockets.stats.display().to_string(),
            _ => String::new(),
        };
        Ok(Settings {
            proxy,
            commands: Commands::default(),
            routing: self.routing.check(stats)?,
            mode: if self.dry_run {
                Mode::DryRun
            } else {
                Mode::Write(self.on_exit)
            },
            resync: seconds(self.resync),
            reload_interval: seconds(self.reload_interval),
            drain: seconds(self.drain),
            probes: !self.no_probe,
            explain: self.explain,
            listen: self.listen,
        })
    }

    fn proxy(&self) -> Result<ProxySettings, Wrong> {
        if let Some(stats) = &self.socket {
            if !self.command.is_empty() {
                let message =
                    "--socket names a proxy that somebody else starts, so there is no COMMAND"
                        .to_owned();
                return Err((ErrorKind::ArgumentConflict, message));
            }
            let (stats, master) = (stats.clone(), self.master_socket.clone());
            return Ok(ProxySettings {
                proxy: Proxy::Haproxy(Sockets { stats, master }),
                starter: Starter::Others,
            });
        }
        let [stats, master] = OWN_SOCKETS.map(|name| self.routing.directory.join(name));
        if master.as_os_str().len() > LONGEST_SOCKET {
            let message = format!(
                "--directory {} is too long: a socket's path there would have more than {LONGEST_SOCKET} bytes",
                self.routing.directory.display()
            );
            return Err((ErrorKind::ValueValidation, message));
        }
        Ok(ProxySettings {
            proxy: Proxy::Haproxy(Sockets {
                stats,
                master: Some(master),
            }),
            starter: Starter::Us {
                command: self.command.clone(),
            },
        })
    }
}

impl RoutingArgs {
    /// `socket` is the one on which the proxy is to take run-time commands.
    pub(super) fn check(self, socket: String) -> Result<RoutingSettings, Wrong> {
        let state_file = self.directory.join(STATE_FILE).display().to_string();
        Ok(RoutingSettings {
            script: self.script,
            options: RoutingOptions {
                prefix: self.prefix,
                set: not_empty(self.set),
                socket,
                state_file,
            },
            store: self.store.check()?,
            directory: self.directory,
        })
    }

    /// The admin socket of our own proxy.
    pub(super) fn own_socket(&self) -> String {
        self.directory.join(OWN_SOCKETS[0]).display().to_string()
    }
}
