//! The flags of `up`: those of `run` and `discover`, each once.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::Wrong;
use super::discover::{DiscoverArgs, PROXY, ProxyArgs, RoutingArgs, TargetArgs};
use super::flags::HostArgs;
use super::run::state_directory;
use super::value;
use crate::commands::up::Settings;
use crate::discover;
use crate::policy::Options;
use crate::register::{self, Mode};

/// The setting that makes the registering policy take ports that are published on a loopback address.
const LOOPBACK: &str = "loopback";

/// `--on-exit` of `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    Leave,
    Stop,
    Remove,
}

#[derive(Debug, Args)]
pub struct UpArgs {
    /// The fate of proxy and keys at exit
    #[arg(long, value_enum, default_value_t = OnExit::Stop)]
    pub on_exit: OnExit,

    /// The time between two lists of everything
    ///
    /// That is all containers and all keys. Finds changes whose event was lost, and tries addresses again that were taken.
    #[arg(long, env = "DOCKER_REGISTER_RESYNC", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub resync: u32,

    /// Serve metrics, health checks and pages on this address
    ///
    /// The paths are `/metrics`, `/healthz`, `/readyz`, `/`, `/register` and `/discover`. There is no authentication.
    #[arg(long, env = "DOCKER_REGISTER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,

    /// While this file exists, remove its containers' keys
    ///
    /// Each line is a name, or an id of 12 digits or more. An empty file means all containers. Without the file, the keys
    /// come back.
    #[arg(long, env = "DOCKER_REGISTER_DRAIN_FILE", value_name = "PATH")]
    pub drain_file: Option<PathBuf>,

    /// Log why something is left out
    #[arg(long, env = "DOCKER_REGISTER_EXPLAIN", value_parser = FalseyValueParser::new())]
    pub explain: bool,

    #[command(flatten)]
    pub host: HostArgs,

    #[command(flatten)]
    pub target: TargetArgs,

    /// The policy of the routes [default: discover]
    ///
    /// A file, or the name of a bundled one.
    #[arg(long, env = "DOCKER_REGISTER_DISCOVER_SCRIPT", value_name = "FILE", help_heading = PROXY)]
    pub discover_script: Option<PathBuf>,

    /// A setting of the policy of the routes
    ///
    /// The policy reads it as `options.NAME`. May be passed several times; in the environment, one per line.
    #[arg(long, env = "DOCKER_REGISTER_DISCOVER_SET", value_name = "NAME=VALUE", value_delimiter = '\n', help_heading = PROXY, value_parser = value::setting)]
    pub discover_set: Vec<(String, String)>,

    #[command(flatten)]
    pub proxy: ProxyArgs,

    /// The command that runs the proxy [default: its own]
    ///
    /// As for `discover`.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl UpArgs {
    pub(super) fn check(self) -> Result<Settings, Wrong> {
        let store = self.host.store.check_or_memory()?;
        let (of_keys, of_proxy) = match self.on_exit {
            OnExit::Leave => (register::OnExit::Leave, discover::OnExit::Leave),
            OnExit::Stop => (register::OnExit::Leave, discover::OnExit::Stop),
            OnExit::Remove => (register::OnExit::Remove, discover::OnExit::Stop),
        };
        let discover = DiscoverArgs {
            action: None,
            dry_run: false,
            on_exit: of_proxy,
            resync: self.resync,
            listen: self.listen,
            explain: self.explain,
            proxy: self.proxy,
            routing: RoutingArgs {
                store: self.host.store.clone(),
                script: self.discover_script,
                prefix: self.host.options.prefix.clone(),
                set: self.discover_set,
                target: self.target,
                log: self.host.log.clone(),
            },
            command: self.command,
        };
        let discover = discover.settings_with(store.clone())?;
        let mut host = self.host.check_with(store);
        if !host.store.lasts() {
            on_this_host(&mut host.options);
        }
        Ok(Settings {
            register: register::Settings {
                // A daemon's id is remembered for the keys of the process before, and there are none in memory.
                state_directory: state_directory().filter(|_| host.store.lasts()),
                host,
                mode: Mode::Write(of_keys),
                resync: Duration::from_secs(u64::from(self.resync)),
                explain: self.explain,
                listen: self.listen,
                drain_file: self.drain_file,
            },
            discover,
        })
    }
}

/// The containers are reached from this host alone, so its address is a loopback one, and so may be theirs.
fn on_this_host(options: &mut Options) {
    if options.host_ip.is_empty() {
        "127.0.0.1".clone_into(&mut options.host_ip);
    }
    let ip = options.host_ip.parse::<IpAddr>();
    let is_loopback = ip.is_ok_and(|ip| ip.is_loopback());
    if is_loopback && !options.set.iter().any(|(name, _)| name == LOOPBACK) {
        options.set.push((LOOPBACK.to_owned(), "true".to_owned()));
    }
}
