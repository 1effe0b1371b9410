//! A container as a policy sees it, read from the daemon's inspect reply or from saved `docker inspect` output.
//!
//! It is data alone: the feed asks the daemon, and the policy's bindings turn the fields into Lua. Only fields that the
//! Docker API 1.52 still has are read, and of those only the ones that are used.

pub mod fields;
mod image;
mod infra;
mod inspect;
mod listed;
mod loose;
mod map;
mod port;
mod reply;
mod sample;
mod saved;
mod shared_network;
mod signal;
pub mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::base::by_age::{Rank, Ranked};
use reply::{Endpoint, Reply};

pub use image::Image;
pub use inspect::Inspect;
pub use listed::Listed;
pub use loose::{Loose, Members, Text};
pub use map::Map;
pub use port::{Binding, Port};
pub use reply::decode;
pub use sample::Sample;
pub use saved::{Saved, read_saved};
pub use shared_network::{Chain, Guest, SharedNetwork};
use signal::{KILL, TERM};

/// The beginning of the network mode of a container in another one's network.
const GUEST: &str = "container:";
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
    /// Without the leading slash; the short id if it has none.
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
    /// `none`, `starting`, `healthy`, `unhealthy`, or another word of Docker's.
    pub health: String,
    /// Whether it was sent a fatal signal and may still end. An inspection does not show this; events do.
    pub stopping: bool,
    /// In order of port number, then protocol.
    pub ports: Arc<[Port]>,
    /// By name.
    pub networks: Map<Network>,
    /// `bridge`, `host`, `container:ID`, the name of a network, …
    pub network_mode: String,
    /// The name of the container whose network it uses in the end, if that is not its own.
    pub network_owner: Option<Arc<str>>,
    /// Whether a container that it shares the network of has started after it. It is still in that one's former
    /// network, where nobody reaches it.
    pub cut_off: bool,
    /// Why it counts as an infra container, which only holds the network of a pod.
    pub infra: Option<String>,
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
    /// The host's address in it.
    pub gateway: Option<String>,
    pub gateway6: Option<String>,
    pub aliases: Vec<String>,
}

impl Container {
    /// Reads an inspect object. The error names the field that cannot be read.
    pub fn read(object: &[u8]) -> anyhow::Result<Self> {
        Self::new(decode(object)?, Inspect::new(object))
    }

    fn new(mut reply: Reply, inspect: Inspect) -> anyhow::Result<Self> {
        let ids = [reply.id.take(), reply.old_id.0.take()];
        let id = ids.into_iter().flatten().find(|id| !id.is_empty());
        let id = id.context("it has no `Id`")?;
        let name = reply.name.as_deref().unwrap_or_default();
        let name = Some(name.trim_start_matches('/')).filter(|name| !name.is_empty());
        let name: Arc<str> = name.unwrap_or_else(|| short(&id)).into();
        let image = image(&reply);
        let infra = infra::reason(&reply, image.name.as_deref());
        let config = reply.config.unwrap_or_default();
        let state = reply.state.unwrap_or_default();
        let settings = reply.network_settings.unwrap_or_default();
        let network_mode = reply.host_config.unwrap_or_default().network_mode;
        let network_mode = network_mode.unwrap_or_default();
        let status = state.status();
        let has_no_health_check = config.has_no_health_check();
        let env = config.env.iter().flatten().flatten();
        let env = env.filter_map(|pair| pair.split_once('='));
        let created = reply.created.0.unwrap_or_default();
        // Podman shows the ports of the network's owner here.
        let published = match network_mode.strip_prefix(GUEST) {
            Some(_) => Vec::new(),
            None => settings.ports.0,
        };
        let exposed = config.exposed_ports.0.iter().map(|(name, _)| name.as_str());
        let labels = config.labels.0.into_iter();
        let networks = settings.networks.0.into_iter();
        Ok(Self {
            name,
            hostname: config.hostname.0.unwrap_or_default(),
            image,
            labels: labels.map(|(name, text)| (name, text.0.into())).collect(),
            env: env
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect(),
            running: state
                .running
                .unwrap_or_else(|| ["running", "paused", "restarting"].contains(&status.as_str())),
            health: if has_no_health_check {
                "none".to_owned()
            } else {
                state.health()
            },
            status,
            stopping: false,
            ports: port::all(exposed, &published, network_mode == "host"),
            networks: networks
                .map(|(name, endpoint)| (name, Network::new(endpoint.unwrap_or_default())))
                .collect(),
            network_mode,
            network_owner: None,
            cut_off: false,
            infra,
            age: age(&created).into(),
            created,
            started: state.started_at.0.unwrap_or_default(),
            stop_signal: config.stop_signal.0.map(|signal| signal.0),
            stop_timeout: config.stop_timeout.0,
            id: id.into(),
            inspect,
        })
    }

    pub fn short_id(&self) -> &str {
        short(&self.id)
    }

    /// Whether its state is one of Docker's. Another one, such as Podman's `stopped`, may be on the way to the next, and no
    /// event may tell of that.
    pub fn is_settled(&self) -> bool {
        reply::STATES.contains(&self.status.as_str())
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
    pub fn network_reference(&self) -> Option<&str> {
        self.network_mode.strip_prefix(GUEST)
    }

    /// Whether a reference is its name, its id, or the beginning of its id.
    pub fn is_called(&self, reference: &str) -> bool {
        *self.name == *reference || reference.len() >= SHORT_ID && self.id.starts_with(reference)
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

fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

fn image(reply: &Reply) -> Image {
    let named = reply
        .config
        .as_ref()
        .and_then(|config| config.image.as_deref());
    let named = named.filter(|name| !name.is_empty());
    let reference = named.or(reply.image_name.0.as_deref()).unwrap_or_default();
    Image::new(reference, reply.image.as_deref().unwrap_or_default())
}

fn age(created: &str) -> String {
    match created.parse::<Timestamp>() {
        Ok(time) => format!("{time:.9}"),
        Err(_) => created.to_owned(),
    }
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
    fn new(endpoint: Endpoint) -> Self {
        let present = |ip: Option<String>| ip.filter(|ip| !ip.is_empty());
        Self {
            ip: present(endpoint.ip_address),
            ip6: present(endpoint.global_ipv6_address),
            gateway: present(endpoint.gateway.0),
            gateway6: present(endpoint.ipv6_gateway.0),
            aliases: endpoint.aliases.unwrap_or_default(),
        }
    }
}
