//! The flags that several commands share, and the settings that they become.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::store::StoreArgs;
use super::{Wrong, value};
use crate::docker::Filters;
use crate::ops::log::{self, LevelFilter};
use crate::policy::Options;
use crate::register::HostSettings;
use crate::store;

/// The heading of the flags that decide which keys are registered.
pub(super) const POLICY: &str = "Policy";

/// The flags of every command that looks at containers.
#[derive(Debug, Args)]
pub struct HostArgs {
    #[command(flatten)]
    pub store: StoreArgs,

    /// The policy: a file, or the name of a bundled one [default: register]
    #[arg(
        long,
        env = "DOCKER_REGISTER_SCRIPT",
        value_name = "FILE",
        help_heading = POLICY
    )]
    pub script: Option<PathBuf>,

    /// Only containers that `docker ps --filter` shows
    ///
    /// May be passed several times; in the environment, one per line.
    #[arg(long, env = "DOCKER_REGISTER_FILTER", help_heading = POLICY, value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = value::pair)]
    pub filter: Vec<(String, String)>,

    #[command(flatten)]
    pub options: OptionArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// The flags that a policy reads as `options`.
#[derive(Debug, Args)]
#[command(next_help_heading = POLICY)]
pub struct OptionArgs {
    /// The address at which other hosts reach this one
    ///
    /// Default: the address from which this host reaches the store, unless that is loopback.
    #[arg(long, env = "HOST_IP", value_name = "ADDRESS")]
    pub host_ip: Option<IpAddr>,

    /// The beginning of every key
    #[arg(long, env = "DOCKER_REGISTER_PREFIX", default_value = "/backends", value_parser = value::prefix)]
    pub prefix: String,

    /// The lifetime of keys after their registrar dies
    #[arg(long, env = "DOCKER_REGISTER_TTL", value_name = "SECONDS", default_value_t = 60, value_parser = value::ttl)]
    pub ttl: u32,

    /// A setting of the policy, which it reads as `options.NAME`
    ///
    /// May be passed several times; in the environment, one per line.
    #[arg(long, env = "DOCKER_REGISTER_SET", value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = value::setting)]
    pub set: Vec<(String, String)>,

    #[command(flatten)]
    pub instance: InstanceArg,
}

/// The flag that tells registrars of one Docker daemon apart.
#[derive(Debug, Args)]
pub struct InstanceArg {
    /// The name of this registrar, if several share one Docker daemon
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
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// The format of the log
    #[arg(long, env = "DOCKER_REGISTER_LOG_FORMAT", value_enum, default_value_t = log::Format::Text)]
    pub log_format: log::Format,

    /// The lowest level that is logged
    #[arg(long, env = "DOCKER_REGISTER_LOG_LEVEL", value_enum, default_value_t = Level::Info)]
    pub log_level: Level,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Level {
    /// Failures that need attention
    Error,
    /// Problems that may need attention
    Warn,
    /// Every change
    Info,
    /// Everything
    Debug,
}

impl HostArgs {
    /// The settings, or an error if flags contradict one another.
    pub(super) fn check(self) -> Result<HostSettings, Wrong> {
        let store = self.store.check()?;
        Ok(self.check_with(store))
    }

    /// The settings with a store that the caller has checked.
    pub(super) fn check_with(self, store: store::Settings) -> HostSettings {
        let mut filters: Filters = HashMap::new();
        for (name, value) in not_empty(self.filter) {
            filters.entry(name).or_default().push(value);
        }
        HostSettings {
            script: self.script,
            options: self.options.check(),
            store,
            filters,
        }
    }
}

impl OptionArgs {
    pub(super) fn check(self) -> Options {
        Options {
            prefix: self.prefix,
            ttl: self.ttl,
            host_ip: self.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            instance: self.instance.instance,
            set: not_empty(self.set),
        }
    }
}

impl LogArgs {
    pub(super) fn check(&self) -> log::Settings {
        log::Settings {
            format: self.log_format,
            level: match self.log_level {
                Level::Error => LevelFilter::ERROR,
                Level::Warn => LevelFilter::WARN,
                Level::Info => LevelFilter::INFO,
                Level::Debug => LevelFilter::DEBUG,
            },
        }
    }
}

/// Drops the pairs that come from empty lines.
pub(super) fn not_empty(mut pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    pairs.retain(|(name, _)| !name.is_empty());
    pairs
}
