//! A container as a policy sees it, read from the daemon's inspect reply or from saved `docker inspect` output.
//!
//! It is data alone: the feed asks the daemon, and the policy's bindings turn the fields into Lua. Only fields that the
//! Docker API 1.52 still has are read.

pub mod fields;
mod image;
mod inspect;
mod listed;
mod map;
mod port;
mod sample;
mod signal;
pub mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bollard::models::{ContainerInspectResponse, EndpointSettings, HealthStatusEnum};
use jiff::Timestamp;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::base::by_age::{Rank, Ranked};
use crate::base::text::printable;

pub use image::Image;
pub use inspect::Inspect;
pub use listed::{listed_marks, listed_names};
pub use map::Map;
pub use port::{Binding, Port};
pub use sample::Sample;
use signal::{KILL, TERM};

/// The length of a short id.
pub const SHORT_ID: usize = 12;
/// Docker's default pause between the stop signal and KILL, in seconds.
const DEFAULT_STOP_TIMEOUT: i64 = 10;
/// How long Docker may still show a killed container as running.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// A container at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// All 64 hex digits.
    pub id: Arc<str>,
    /// Without the leading slash.
    pub name: Arc<str>,
    /// As its processes see it.
    pub hostname: String,
    pub image: Image,
    /// With those of the image.
    pub labels: Map<Box<str>>,
    /// With those of the image.
    pub env: Map<Box<str>>,
    /// Docker's word: `running`, `paused`, `restarting`, …
    pub status: String,
    /// Docker counts paused and restarting containers as running too.
    pub running: bool,
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub health: String,
    /// Whether it was sent a fatal signal and may still end. An inspection does not show this; events do.
    pub stopping: bool,
    /// In order of port number, then protocol.
    pub ports: Arc<[Port]>,
    /// By name.
    pub networks: Map<Network>,
    /// `bridge`, `host`, `container:ID`, the name of a network, …
    pub network_mode: String,
    /// When it was created, as Docker writes it.
    pub created: String,
    /// The same in a form that sorts by age, however many digits Docker writes.
    pub age: Arc<str>,
    /// When it was last started, as Docker writes it.
    pub started: String,
    /// The first signal of `docker stop`, if it is not TERM.
    pub stop_signal: Option<String>,
    /// The container's own pause before `docker stop` kills it, in seconds; for ever if negative.
    pub stop_timeout: Option<i64>,
    pub inspect: Inspect,
}

/// A container's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// IPv4.
    pub ip: Option<String>,
    pub ip6: Option<String>,
    pub aliases: Vec<String>,
}

impl Container {
    /// Fails only if the reply has no id or no name.
    pub fn new(inspect: ContainerInspectResponse) -> anyhow::Result<Self> {
        let id = inspect
            .id
            .clone()
            .filter(|id| !id.is_empty())
            .context("it has no `Id`")?;
        let name: Arc<str> = inspect
            .name
            .as_deref()
            .unwrap_or_default()
            .trim_start_matches('/')
            .into();
        if name.is_empty() {
            bail!("it has no `Name`");
        }
        let (config, state, settings) = (
            inspect.config.as_ref(),
            inspect.state.as_ref(),
            inspect.network_settings.as_ref(),
        );
        let host_config = inspect.host_config.as_ref();
        let network_mode = host_config
            .and_then(|host| host.network_mode.clone())
            .unwrap_or_default();
        let health = state.and_then(|state| state.health.as_ref()?.status);
        let health = match health {
            None | Some(HealthStatusEnum::EMPTY) => HealthStatusEnum::NONE,
            Some(status) => status,
        };
        let env = config.and_then(|config| config.env.as_ref());
        let env = env
            .into_iter()
            .flatten()
            .filter_map(|pair| pair.split_once('='));
        let labels = config.and_then(|config| config.labels.clone());
        let networks = settings.and_then(|settings| settings.networks.as_ref());
        let published = settings.and_then(|settings| settings.ports.clone());
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        Ok(Self {
            name,
            hostname: text(config.and_then(|config| config.hostname.as_ref())),
            image: Image::new(
                config
                    .and_then(|config| config.image.as_deref())
                    .unwrap_or_default(),
                inspect.image.as_deref().unwrap_or_default(),
            ),
            labels: labels
                .into_iter()
                .flatten()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            env: env
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect(),
            status: state
                .and_then(|state| state.status)
                .map(|status| status.to_string())
                .unwrap_or_default(),
            running: state.and_then(|state| state.running).unwrap_or(false),
            health: health.to_string(),
            stopping: false,
            ports: port::all(
                config,
                published.unwrap_or_default(),
                network_mode == "host",
            ),
            networks: networks
                .into_iter()
                .flatten()
                .map(|(name, endpoint)| (name.clone(), Network::new(endpoint)))
                .collect(),
            network_mode,
            age: age(inspect.created.as_deref().unwrap_or_default()).into(),
            created: inspect.created.clone().unwrap_or_default(),
            started: text(state.and_then(|state| state.started_at.as_ref())),
            stop_signal: config.and_then(|config| config.stop_signal.clone()),
            stop_timeout: config.and_then(|config| config.stop_timeout),
            id: id.into(),
            inspect: Inspect::new(inspect),
        })
    }

    /// Reads an inspect object from bytes, as Docker's client does. The decoder of its many types is generic over the
    /// source, and another kind of source would put it in the program a second time.
    fn read(object: &[u8]) -> anyhow::Result<Self> {
        let inspect = serde_json::from_slice(object).map_err(|error| {
            // The line is counted within the object, so it is misleading.
            let error = error.to_string();
            let what = error.split(" at line ").next().unwrap_or_default();
            anyhow!(
                "not what `docker inspect` prints of a container: {}",
                printable(what)
            )
        })?;
        Self::new(inspect)
    }

    pub fn short_id(&self) -> &str {
        self.id.get(..SHORT_ID).unwrap_or(&self.id)
    }

    /// Texts by which a key or a value may be recognised as this container's: its id, its name, its addresses and its
    /// published ports.
    pub fn marks(&self) -> Vec<String> {
        let bindings = self.ports.iter().flat_map(|port| &port.bindings);
        let addresses = self
            .networks
            .iter()
            .flat_map(|(_, network)| [&network.ip, &network.ip6]);
        [
            self.id.to_string(),
            self.short_id().to_owned(),
            self.name.to_string(),
        ]
        .into_iter()
        .chain(bindings.map(|binding| format!(":{}", binding.port)))
        .chain(addresses.flatten().cloned())
        .collect()
    }

    /// The id or name of the container whose network this one uses instead of its own.
    pub fn network_owner(&self) -> Option<&str> {
        self.network_mode.strip_prefix("container:")
    }

    /// Whether a reference is its name, its id, or the beginning of its id.
    pub fn is_called(&self, reference: &str) -> bool {
        *self.name == *reference || reference.len() >= SHORT_ID && self.id.starts_with(reference)
    }

    /// This container with the ports and networks of the owner of its network.
    pub fn in_network_of(&self, owner: &Self) -> Self {
        Self {
            ports: owner.ports.clone(),
            networks: owner.networks.clone(),
            hostname: owner.hostname.clone(),
            ..self.clone()
        }
    }

    /// Whether a signal, given by its number, is meant to end this container: its own stop signal, TERM or KILL.
    /// Others, such as HUP for a reload, are not.
    pub fn ends_by(&self, signal: &str) -> bool {
        let stop_signal = self.stop_signal.as_deref();
        let number = signal::number(signal);
        number.is_some()
            && (number == Some(TERM)
                || number == Some(KILL)
                || number == stop_signal.and_then(signal::number))
    }

    /// How long it may take to end after such a signal. Only the caller of `docker stop --time` knows that time, so
    /// this is the container's own `--stop-timeout`.
    pub fn stop_grace(&self) -> Duration {
        let seconds = self.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT);
        // Negative means for ever; a day is enough.
        let seconds = u64::try_from(seconds).unwrap_or(86_400).min(86_400);
        Duration::from_secs(seconds) + STOP_SLACK
    }
}

fn age(created: &str) -> String {
    match created.parse::<Timestamp>() {
        Ok(time) => format!("{time:.9}"),
        Err(_) => created.to_owned(),
    }
}

/// Reads saved `docker inspect` output: one object, or a list of them.
pub fn read_saved(json: &str) -> anyhow::Result<Vec<Arc<Container>>> {
    const WHAT: &str = "save the output of `docker inspect $(docker ps -q)`";
    // Each object is decoded by itself, so that an error can name it.
    let objects: Vec<&RawValue> = match json.trim_start().chars().next() {
        Some('{') => serde_json::from_str(json).map(|object| vec![object]),
        _ => serde_json::from_str(json),
    }
    .map_err(|error| match error.classify() {
        Category::Data => anyhow!("neither a list nor an object; {WHAT}"),
        _ => anyhow::Error::new(error).context(format!("not JSON; {WHAT}")),
    })?;
    let mut containers = Vec::with_capacity(objects.len());
    for (index, object) in objects.into_iter().enumerate() {
        let container = Container::read(object.get().as_bytes())
            .with_context(|| format!("container {}", index + 1))?;
        containers.push(Arc::new(container));
    }
    let owners = containers.clone();
    for container in &mut containers {
        if let Some(owner) = container
            .network_owner()
            .and_then(|owner| find(&owners, owner))
        {
            *container = Arc::new(container.in_network_of(owner));
        }
    }
    Ok(containers)
}

/// Finds a container by its name, its id, or the beginning of its id.
pub fn find<'a>(
    containers: impl IntoIterator<Item = &'a Arc<Container>>,
    reference: &str,
) -> Option<&'a Arc<Container>> {
    containers
        .into_iter()
        .find(|container| container.is_called(reference))
}

impl Ranked for Container {
    fn rank(&self) -> Rank {
        Rank {
            age: Arc::clone(&self.age),
            id: Arc::clone(&self.id),
        }
    }
}

impl Network {
    fn new(endpoint: &EndpointSettings) -> Self {
        let present = |ip: &Option<String>| ip.clone().filter(|ip| !ip.is_empty());
        Self {
            ip: present(&endpoint.ip_address),
            ip6: present(&endpoint.global_ipv6_address),
            aliases: endpoint.aliases.clone().unwrap_or_default(),
        }
    }
}
