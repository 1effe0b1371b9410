//! The part of an inspect reply that a [`super::Container`] is made of: Docker's, `podman inspect`'s, or a saved one.
//!
//! bollard's own types are not used: they refuse a whole reply for one odd field that nobody reads, such as a
//! `StopSignal` that is a number, and a whole list for one state that they do not know.

use std::fmt;

use anyhow::anyhow;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::loose::{Loose, Members, Text};
use crate::base::text::{printable, quote};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct Reply {
    pub id: Option<String>,
    /// The id as Podman 1 has it.
    #[serde(rename = "ID")]
    pub old_id: Loose<String>,
    pub name: Option<String>,
    /// Podman's word for an infra container.
    pub is_infra: Loose<bool>,
    pub created: Loose<String>,
    /// The program that it runs.
    pub path: Loose<String>,
    /// The image's id.
    pub image: Option<String>,
    /// Podman's name for the image; `Config.Image` is missing in older versions.
    pub image_name: Loose<String>,
    pub config: Option<Config>,
    pub state: Option<State>,
    pub host_config: Option<HostConfig>,
    pub network_settings: Option<NetworkSettings>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct Config {
    pub hostname: Loose<String>,
    pub image: Option<String>,
    pub labels: Members<Text>,
    pub env: Option<Vec<Option<String>>>,
    pub exposed_ports: Members<IgnoredAny>,
    pub stop_signal: Loose<Text>,
    pub stop_timeout: Loose<i64>,
    pub healthcheck: Loose<Healthcheck>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct Healthcheck {
    pub test: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct State {
    /// Missing before Docker 1.8.
    pub status: Option<String>,
    pub running: Option<bool>,
    pub paused: Loose<bool>,
    pub restarting: Loose<bool>,
    pub started_at: Loose<String>,
    pub health: Option<Health>,
    /// The name of `Health` in older versions of Podman.
    pub healthcheck: Option<Health>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct Health {
    pub status: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct HostConfig {
    pub network_mode: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct NetworkSettings {
    pub ports: Published,
    pub networks: Members<Option<Endpoint>>,
}

/// The addresses of each exposed port, by `80/tcp`; none if it is not published.
#[derive(Default)]
pub struct Published(pub Vec<(String, Option<Vec<HostPort>>)>);

/// A published port as Podman 1 lists it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Listed {
    container_port: u16,
    protocol: String,
    host_port: Text,
    #[serde(default, rename = "hostIP")]
    host_ip: Option<String>,
}

impl<'de> Deserialize<'de> for Published {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_any(PublishedVisitor)
    }
}

struct PublishedVisitor;

impl<'de> Visitor<'de> for PublishedVisitor {
    type Value = Published;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Published, E> {
        Ok(Published::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Published, A::Error> {
        let mut published = Vec::new();
        while let Some(port) = map.next_entry()? {
            published.push(port);
        }
        Ok(Published(published))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Published, A::Error> {
        let mut published: Vec<(String, Option<Vec<HostPort>>)> = Vec::new();
        while let Some(listed) = list.next_element::<Listed>()? {
            let name = format!("{}/{}", listed.container_port, listed.protocol);
            let host_port = HostPort {
                host_ip: listed.host_ip,
                host_port: listed.host_port,
            };
            match published.iter_mut().find(|(known, _)| *known == name) {
                Some((_, Some(known))) => known.push(host_port),
                _ => published.push((name, Some(vec![host_port]))),
            }
        }
        Ok(Published(published))
    }
}

/// An address of the host at which a port is published.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct HostPort {
    pub host_ip: Option<String>,
    pub host_port: Text,
}

/// A container's place in a network.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct Endpoint {
    #[serde(rename = "IPAddress")]
    pub ip_address: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: Option<String>,
    pub gateway: Loose<String>,
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: Loose<String>,
    pub aliases: Option<Vec<String>>,
}

/// Docker's words for a state.
pub const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];

impl State {
    /// Docker's word, or the one that it would have for these flags.
    pub fn status(&self) -> String {
        if let Some(status) = &self.status {
            return status.clone();
        }
        let word = match (self.running, self.paused.0, self.restarting.0) {
            (None, _, _) => "",
            (_, Some(true), _) => "paused",
            (_, _, Some(true)) => "restarting",
            (Some(true), _, _) => "running",
            (Some(false), _, _) => "exited",
        };
        word.to_owned()
    }

    /// `none` without a health check.
    pub fn health(&self) -> String {
        let health = self.health.as_ref().or(self.healthcheck.as_ref());
        let status = health.and_then(|health| health.status.clone());
        let status = status.filter(|status| !status.is_empty());
        status.unwrap_or_else(|| "none".to_owned())
    }
}

impl Config {
    /// Whether the health check of the image is switched off. Podman 3 still says `starting` then.
    pub fn has_no_health_check(&self) -> bool {
        let test = self.healthcheck.0.as_ref().map(|check| &check.test[..]);
        test.is_some_and(|test| test.first().is_some_and(|word| word == "NONE"))
    }
}

/// Decodes an answer of Docker's. The error names the field.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> anyhow::Result<T> {
    let mut decoder = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut decoder).map_err(|error| {
        let (path, why) = (error.path().to_string(), error.inner().to_string());
        // The line is counted within the object, so it is misleading.
        let why = why.split(" at line ").next().unwrap_or_default();
        let why = printable(why);
        if path == "." {
            anyhow!("{why}")
        } else {
            anyhow!("{}: {why}", quote(&path))
        }
    })
}
