//! The flags of `discover` and `services`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{Args, Subcommand, ValueEnum as _};

use super::Wrong;
use super::flags::{LogArgs, POLICY, not_empty};
use super::store::StoreArgs;
use super::value;
use crate::commands::{Command, files};
use crate::discover::{
    Commands, Mode, OnExit, Proxy, ProxySettings, RoutingSettings, STATE_FILE, Settings, Sockets,
    Starter,
};
use crate::policy::{ProxyOptions, RoutingOptions};
use crate::store;

/// The heading of the flags about the proxy.
pub(super) const PROXY: &str = "Proxy";
/// The names of our own proxy's sockets, below the directory.
const OWN_SOCKETS: [&str; 2] = ["admin.sock", "master.sock"];
/// The name of our own nginx's pid file, below the directory.
const PID_FILE: &str = "nginx.pid";
/// The longest path of a Unix socket, in bytes (`sun_path`).
const LONGEST_SOCKET: usize = 107;

/// The values of `--proxy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyName {
    Haproxy,
    Nginx,
    Envoy,
    None,
}

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
    /// Finds changes that the store's watch lost, and tries addresses again that were taken. With more than 100 keys for
    /// each second, they are listed less often: 100 keys a second.
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

    #[command(flatten)]
    pub proxy: ProxyArgs,

    #[command(flatten)]
    pub routing: RoutingArgs,

    /// The command that runs the proxy [default: its own]
    ///
    /// It stays in the foreground and reads the files in the directory: HAProxy `haproxy.cfg`, with its master's socket
    /// `master.sock` there; nginx `nginx.conf`; Envoy `envoy/bootstrap.json`.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The flags about the proxy, of every command that changes it.
#[derive(Debug, Args)]
pub struct ProxyArgs {
    /// The admin socket of a proxy that somebody else starts
    ///
    /// HAProxy's stats socket, or Envoy's admin interface on a Unix socket. Such a proxy is never started or stopped,
    /// and loads the files in the directory.
    #[arg(long, value_name = "PATH", help_heading = PROXY, value_parser = value::path)]
    pub socket: Option<PathBuf>,

    /// The master socket of a HAProxy that somebody else starts
    #[arg(long, value_name = "PATH", help_heading = PROXY, requires = "socket", value_parser = value::path)]
    pub master_socket: Option<PathBuf>,

    /// The pid file of an nginx that somebody else starts
    ///
    /// Such an nginx is never started or stopped. It gets a HUP after its files have changed.
    #[arg(long, value_name = "PATH", help_heading = PROXY, value_parser = value::path)]
    pub pid_file: Option<PathBuf>,

    /// Check the files beside the proxy's own by this command
    ///
    /// `sh -c` runs it before any file is installed. They all lie in `$DIRECTORY` then. If it fails, the last files stay,
    /// and its output is logged. With `--proxy none` it is about all files; with `--proxy nginx` it replaces `nginx -t`.
    #[arg(long, value_name = "COMMAND", help_heading = PROXY, value_parser = value::command)]
    pub check: Option<String>,

    /// Load the files beside the proxy's own by this command
    ///
    /// `sh -c` runs it after they have been installed in `$DIRECTORY`, and again until it succeeds. With `--proxy none` it
    /// is about all files. Without it, a change of such a file makes HAProxy reload.
    #[arg(long, value_name = "COMMAND", help_heading = PROXY, value_parser = value::command)]
    pub reload: Option<String>,

    /// The shortest time between two reloads
    #[arg(long, value_name = "SECONDS", default_value_t = 2, help_heading = PROXY)]
    pub reload_interval: u32,

    /// The time for removed servers to drain
    ///
    /// Their open connections may go on for that long. It is HAProxy's alone.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = PROXY)]
    pub drain: u32,

    /// Do not try new addresses before the proxy gets them
    ///
    /// For a proxy in another network namespace than this program.
    #[arg(long, help_heading = PROXY)]
    pub no_probe: bool,
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

    #[command(flatten)]
    pub target: TargetArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// The flags that say for whom the routes are, and of which keys.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The layout of the keys, if it is not this program's own
    ///
    /// `docker_discover` or `registrator`. For any other, a policy overrides `discover.service`.
    #[arg(long, env = "DOCKER_REGISTER_LAYOUT", value_name = "NAME", help_heading = POLICY, value_parser = value::layout)]
    pub layout: Option<String>,

    /// The proxy that gets the routes
    #[arg(long, env = "DOCKER_REGISTER_PROXY", value_enum, default_value_t = ProxyName::Haproxy, help_heading = PROXY)]
    pub proxy: ProxyName,

    /// The files' directory
    ///
    /// The policy makes them, and the proxy reads them.
    #[arg(long, env = "DOCKER_REGISTER_DIRECTORY", value_name = "DIR", default_value = "/var/lib/docker-register", help_heading = PROXY, value_parser = value::path)]
    pub directory: PathBuf,
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
                args.routing.check_target()?;
                Ok(Command::Files(files::Settings {
                    keys: args.keys,
                    explain: args.explain,
                    routing: args.routing.check_alone()?,
                }))
            }
            None => self.settings().map(Command::Discover),
        }
    }

    fn settings(self) -> Result<Settings, Wrong> {
        let store = self.routing.store.check()?;
        self.settings_with(store)
    }

    /// The settings with a store that the caller has checked.
    pub(super) fn settings_with(self, store: store::Settings) -> Result<Settings, Wrong> {
        let proxy = self.proxy.check(&self.routing.target, self.command)?;
        self.routing.check_target()?;
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        Ok(Settings {
            routing: self.routing.check(&proxy.proxy, store),
            proxy,
            commands: Commands {
                check: self.proxy.check,
                reload: self.proxy.reload,
            },
            mode: if self.dry_run {
                Mode::DryRun
            } else {
                Mode::Write(self.on_exit)
            },
            resync: seconds(self.resync),
            reload_interval: seconds(self.proxy.reload_interval),
            drain: seconds(self.proxy.drain),
            probes: !self.proxy.no_probe,
            explain: self.explain,
            listen: self.listen,
        })
    }
}

impl ProxyArgs {
    fn check(&self, target: &TargetArgs, command: Vec<OsString>) -> Result<ProxySettings, Wrong> {
        let conflict = |message: &str| Err((ErrorKind::ArgumentConflict, message.to_owned()));
        let others = match (target.proxy, self.socket.clone(), self.pid_file.clone()) {
            (ProxyName::Haproxy | ProxyName::Envoy | ProxyName::None, _, Some(_)) => {
                return conflict("--pid-file is about nginx: pass --proxy nginx, or leave it out");
            }
            (ProxyName::Nginx, Some(_), _) => {
                return conflict(
                    "--socket is about HAProxy and Envoy: for an nginx that somebody else starts, pass --pid-file PATH",
                );
            }
            (ProxyName::None, Some(_), _) => {
                return conflict(
                    "--socket is about HAProxy and Envoy: pass --proxy haproxy or --proxy envoy, or leave it out",
                );
            }
            (ProxyName::Envoy, Some(_), _) if self.master_socket.is_some() => {
                return conflict("--master-socket is about HAProxy: leave it out");
            }
            (ProxyName::Haproxy, Some(stats), None) => {
                let master = self.master_socket.clone();
                Some(Proxy::Haproxy(Sockets { stats, master }))
            }
            (ProxyName::Envoy, Some(admin), None) => Some(Proxy::Envoy { admin }),
            (ProxyName::Nginx, None, Some(pid_file)) => Some(Proxy::Nginx { pid_file }),
            (ProxyName::None, None, None) => Some(Proxy::None),
            (_, None, None) => None,
        };
        let Some(proxy) = others else {
            return Ok(ProxySettings {
                proxy: target.own_proxy()?,
                starter: Starter::Us { command },
            });
        };
        let why = match proxy {
            Proxy::None => "--proxy none starts no proxy",
            Proxy::Nginx { .. } => "--pid-file names an nginx that somebody else starts",
            Proxy::Haproxy(_) | Proxy::Envoy { .. } => {
                "--socket names a proxy that somebody else starts"
            }
        };
        if !command.is_empty() {
            return conflict(&format!("{why}, so there is no COMMAND: leave it out"));
        }
        Ok(ProxySettings {
            proxy,
            starter: Starter::Others,
        })
    }
}

impl RoutingArgs {
    /// Fails if the default policy would not know which files to make.
    fn check_target(&self) -> Result<(), Wrong> {
        let is_named = self.set.iter().any(|(name, _)| name == "target");
        if self.target.proxy == ProxyName::None && self.script.is_none() && !is_named {
            let message = "--proxy none needs a target: pass --set target=file_sd (`up`: --discover-set), or a script \
                           that sets `discover.targets`"
                .to_owned();
            return Err((ErrorKind::ValueValidation, message));
        }
        Ok(())
    }

    /// The settings of a command that reaches no proxy. They are those of our own.
    pub(super) fn check_alone(self) -> Result<RoutingSettings, Wrong> {
        let (store, proxy) = (self.store.check()?, self.target.own_proxy()?);
        Ok(self.check(&proxy, store))
    }

    fn check(self, proxy: &Proxy, store: store::Settings) -> RoutingSettings {
        let target = self.target;
        let name = target.proxy.to_possible_value();
        let own = |file: &str| shown(&target.directory.join(file));
        let mut options = ProxyOptions {
            name: name.map_or_else(String::new, |name| name.get_name().to_owned()),
            directory: shown(&target.directory),
            socket: own(OWN_SOCKETS[0]),
            state_file: own(STATE_FILE),
            pid_file: own(PID_FILE),
        };
        match proxy {
            Proxy::Haproxy(Sockets { stats, .. }) => options.socket = shown(stats),
            Proxy::Nginx { pid_file } => options.pid_file = shown(pid_file),
            Proxy::Envoy { admin } => options.socket = shown(admin),
            Proxy::None => {}
        }
        RoutingSettings {
            script: self.script,
            options: RoutingOptions {
                prefix: self.prefix,
                layout: target.layout,
                set: not_empty(self.set),
                proxy: options,
            },
            store,
            directory: target.directory,
        }
    }
}

impl TargetArgs {
    /// The proxy that we start.
    fn own_proxy(&self) -> Result<Proxy, Wrong> {
        let [admin, master] = OWN_SOCKETS.map(|name| self.directory.join(name));
        let longest = match self.proxy {
            ProxyName::Haproxy => master.as_os_str().len(),
            ProxyName::Envoy => admin.as_os_str().len(),
            ProxyName::Nginx | ProxyName::None => 0,
        };
        if longest > LONGEST_SOCKET {
            let message = format!(
                "--directory {} is too long: a socket's path there would have more than {LONGEST_SOCKET} bytes",
                self.directory.display()
            );
            return Err((ErrorKind::ValueValidation, message));
        }
        Ok(match self.proxy {
            ProxyName::Haproxy => Proxy::Haproxy(Sockets {
                stats: admin,
                master: Some(master),
            }),
            ProxyName::Nginx => Proxy::Nginx {
                pid_file: self.directory.join(PID_FILE),
            },
            ProxyName::Envoy => Proxy::Envoy { admin },
            ProxyName::None => Proxy::None,
        })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
