//! What a user can type, and the environment that stands for it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::docker::Filters;
use crate::entry::{TTL, check_key};
use crate::keeper::OnExit;
use crate::store::etcd::{Access, Password, User};

/// The port of an endpoint that names none.
const ETCD_PORT: u16 = 2379;
/// Where the password may be. It has no flag, for others can read the command line.
const PASSWORD: &str = "DOCKER_REGISTER_ETCD_PASSWORD";
/// What `options` has from flags of their own.
const RESERVED: [&str; 4] = ["prefix", "ttl", "host_ip", "instance"];

/// Keeps etcd in step with the containers that run on this Docker host.
///
/// Without a command it is `run`; see `docker-register run --help`. The policy, which decides what is registered
/// and under which keys, is a Lua script.
#[derive(Debug, Parser)]
#[command(name = "docker-register", version, max_term_width = 100)]
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
    /// One `KEY VALUE` a line, sorted. Exits with 1 if the policy failed for a container; the others are printed all
    /// the same.
    Keys(KeysArgs),
}

/// The flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Print each change and write nothing; etcd is not needed
    #[arg(long, env = "DOCKER_REGISTER_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,

    /// What becomes of the keys at exit: they stay until their TTL, or they are removed
    #[arg(long, env = "DOCKER_REGISTER_ON_EXIT", value_enum, default_value_t = OnExitArg::Leave)]
    pub on_exit: OnExitArg,

    /// How often all containers are listed again, should Docker have dropped an event
    #[arg(long, env = "DOCKER_REGISTER_RESYNC", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub resync: u32,

    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Read saved `docker inspect` output instead of asking Docker; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub containers: Option<PathBuf>,

    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of all commands.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// The address under which others reach this host [default: the one from which it reaches etcd]
    #[arg(long, env = "HOST_IP", value_name = "ADDRESS")]
    pub host_ip: Option<IpAddr>,

    /// The endpoints of etcd, with commas between them
    #[arg(long, env = "ETCD_HOST", value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:2379", value_parser = endpoint)]
    pub etcd: Vec<Endpoint>,

    /// The user that etcd knows this registrar as; its password is in a file, or in the environment as
    /// `DOCKER_REGISTER_ETCD_PASSWORD`
    #[arg(long, env = "DOCKER_REGISTER_ETCD_USER", value_name = "NAME")]
    pub etcd_user: Option<String>,

    /// The file with the password of that user
    #[arg(
        long,
        env = "DOCKER_REGISTER_ETCD_PASSWORD_FILE",
        value_name = "FILE",
        requires = "etcd_user"
    )]
    pub etcd_password_file: Option<PathBuf>,

    /// The policy [default: the bundled scripts/register.lua]
    #[arg(long, env = "DOCKER_REGISTER_SCRIPT", value_name = "FILE")]
    pub script: Option<PathBuf>,

    /// What every key begins with
    #[arg(long, env = "DOCKER_REGISTER_PREFIX", default_value = "/backends", value_parser = prefix)]
    pub prefix: String,

    /// How long keys outlive a registrar that dies
    #[arg(long, env = "DOCKER_REGISTER_TTL", value_name = "SECONDS", default_value_t = 60, value_parser = ttl)]
    pub ttl: u32,

    /// What the policy reads as `options.NAME`; may be given several times (in the environment: one a line)
    #[arg(long, env = "DOCKER_REGISTER_SET", value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = setting)]
    pub set: Vec<(String, String)>,

    /// Only containers that `docker ps --filter` would show; may be given several times (in the environment: one a
    /// line)
    #[arg(long, env = "DOCKER_REGISTER_FILTER", value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = pair)]
    pub filter: Vec<(String, String)>,

    /// Tells several registrars of one Docker daemon apart
    #[arg(
        long,
        env = "DOCKER_REGISTER_INSTANCE",
        value_name = "NAME",
        default_value = ""
    )]
    pub instance: String,

    /// Say on stderr what is left out, and why
    #[arg(long, env = "DOCKER_REGISTER_EXPLAIN", value_parser = FalseyValueParser::new())]
    pub explain: bool,

    /// How log lines look
    #[arg(long, env = "DOCKER_REGISTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// The least weight of what is logged
    #[arg(long, env = "DOCKER_REGISTER_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// An endpoint of etcd, as the client takes it: `host:port`.
pub type Endpoint = String;

/// `--on-exit`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OnExitArg {
    /// They stay until their TTL, so that an upgrade is no outage
    Leave,
    /// They are removed before the process ends
    Remove,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogLevel {
    /// What needs somebody
    Error,
    /// What may need somebody
    Warn,
    /// What changes
    Info,
    /// What is seen and done
    Debug,
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
        Self::parse_from(arguments)
    }
}

impl Command {
    /// The flags that all commands have.
    pub fn common(&self) -> &CommonArgs {
        match self {
            Self::Run(run) => &run.common,
            Self::Keys(keys) => &keys.common,
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
    /// Where etcd is, and as whom it is reached. Prints usage and exits with 2 if the user has no password.
    pub fn access(&self) -> Access {
        let text = std::env::var(PASSWORD);
        let password = match (&self.etcd_password_file, text) {
            (Some(file), _) => Some(Password::File(file.clone())),
            (None, Ok(text)) => Some(Password::Text(text)),
            (None, Err(_)) => None,
        };
        let user = self.etcd_user.clone().map(|name| match password {
            Some(password) => User { name, password },
            None => Cli::command()
                .error(
                    ErrorKind::MissingRequiredArgument,
                    format!("--etcd-user needs a password: say --etcd-password-file FILE, or set {PASSWORD}"),
                )
                .exit(),
        });
        Access {
            endpoints: self.etcd.clone(),
            user,
        }
    }

    /// `--set`, without empty lines.
    pub fn settings(&self) -> Vec<(String, String)> {
        self.set
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .cloned()
            .collect()
    }

    /// `--filter` as Docker takes it: the values of each name.
    pub fn filters(&self) -> Filters {
        let mut filters: Filters = HashMap::new();
        for (name, value) in self.filter.iter().filter(|(name, _)| !name.is_empty()) {
            filters.entry(name.clone()).or_default().push(value.clone());
        }
        filters
    }
}

impl From<OnExitArg> for OnExit {
    fn from(arg: OnExitArg) -> Self {
        match arg {
            OnExitArg::Leave => Self::Leave,
            OnExitArg::Remove => Self::Remove,
        }
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let bare = text
        .trim()
        .strip_prefix("http://")
        .unwrap_or(text.trim())
        .trim_end_matches('/');
    if bare.contains("://") {
        return Err("it is host:port, or begins with http://".to_owned());
    }
    if bare.is_empty() || bare.contains(['/', ' ']) {
        return Err("it is host:port, such as 10.0.0.1:2379".to_owned());
    }
    let port = bare
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    match port {
        Some((_, port)) if port.parse::<u16>().is_err() => Err(format!("`{port}` is not a port")),
        Some(_) => Ok(bare.to_owned()),
        // An IPv6 address has its colons in brackets where a port may follow.
        None if bare.contains(':') && !bare.starts_with('[') => Ok(format!("[{bare}]:{ETCD_PORT}")),
        None => Ok(format!("{bare}:{ETCD_PORT}")),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let prefix = text.trim_end_matches('/');
    if !prefix.is_empty() {
        check_key(prefix).map_err(|why| why.to_string())?;
    }
    Ok(prefix.to_owned())
}

fn ttl(text: &str) -> Result<u32, String> {
    text.parse::<u32>()
        .ok()
        .filter(|ttl| TTL.contains(ttl))
        .ok_or_else(|| {
            format!(
                "it is a number of seconds from {} to {}",
                TTL.start(),
                TTL.end()
            )
        })
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        // Text of several lines may end with an empty one.
        None if text.trim().is_empty() => Ok((String::new(), String::new())),
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is NAME=VALUE".to_owned()),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!(
            "`{name}` has a flag of its own: --{}",
            name.replace('_', "-")
        ));
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn endpoints_may_be_written_in_several_ways() {
        assert_eq!(endpoint("1.2.3.4:4001").unwrap(), "1.2.3.4:4001");
        assert_eq!(endpoint("http://etcd:2379/").unwrap(), "etcd:2379");
        assert_eq!(endpoint("etcd").unwrap(), "etcd:2379");
        assert_eq!(endpoint("[::1]:2379").unwrap(), "[::1]:2379");
        assert_eq!(endpoint("::1").unwrap(), "[::1]:2379");
        assert_eq!(endpoint("[::1]").unwrap(), "[::1]:2379");
        for wrong in ["", "etcd:x", "ftp://etcd:1", "a b", "etcd/x"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_a_legal_key_without_a_slash_at_its_end() {
        assert_eq!(prefix("/backends/").unwrap(), "/backends");
        assert_eq!(prefix("traefik").unwrap(), "traefik");
        assert_eq!(prefix("/").unwrap(), "");
        assert!(prefix("/a//b").is_err());
        assert!(prefix("/../b").is_err());
    }

    #[test]
    fn without_a_command_flags_are_those_of_run() {
        let read = |words: &[&str]| Cli::read(words.iter().map(OsString::from)).command;
        assert!(matches!(read(&["docker-register"]), Command::Run(_)));
        let flags = read(&["docker-register", "--dry-run", "--set", "a=b,c"]);
        assert!(matches!(&flags, Command::Run(run) if run.dry_run));
        assert_eq!(flags.common().set, [("a".to_owned(), "b,c".to_owned())]);
        assert!(matches!(
            read(&["docker-register", "keys"]),
            Command::Keys(_)
        ));
    }
}
