//! Containers that a test makes up of a few fields: the inspect object that Docker would show is written from them, and
//! read like any other. Which fields there are is said in `fields`; the module `test` calls this.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::fields::Record as _;
use super::{Container, Port};

/// When a sample is created and started, if the test does not say it.
pub const TIME: &str = "2026-01-01T00:00:00Z";

/// Sets a field of a sample to the value that the test gives, or else to its default.
pub type Sampler = fn(&mut Sample, Option<Value>) -> serde_json::Result<()>;

/// A container that is being made up.
pub struct Sample {
    inspect: Value,
    // An inspect object does not show the rest.
    stopping: bool,
    network_owner: Option<String>,
    cut_off: bool,
    infra: Option<String>,
    /// The guests of ports, by number and protocol.
    guests: BTreeMap<(u16, String), String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SamplePort {
    port: u16,
    #[serde(default = "tcp")]
    protocol: String,
    #[serde(default = "every_address")]
    host_ip: String,
    host_port: Option<u16>,
    #[serde(default, deserialize_with = "list")]
    bindings: Vec<SampleBinding>,
    guests: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleBinding {
    #[serde(default = "every_address")]
    ip: String,
    port: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SampleNetwork {
    ip: String,
    ip6: String,
    gateway: String,
    gateway6: String,
    #[serde(deserialize_with = "list")]
    aliases: Vec<String>,
}

impl Sample {
    /// Reads an object of fields. The error names a field that is unknown or of a wrong type.
    pub fn read(fields: Value) -> anyhow::Result<Self> {
        let Value::Object(mut fields) = fields else {
            bail!("it takes a table of named fields");
        };
        let known = || Container::FIELDS.iter().filter(|row| row.sampler.is_some());
        let mut names = fields.keys();
        if let Some(unknown) = names.find(|name| known().all(|row| row.name != *name)) {
            let names: Vec<String> = known().map(|row| format!("`{}`", row.name)).collect();
            bail!(
                "unknown field `{unknown}`, expected one of {}",
                names.join(", ")
            );
        }
        let mut sample = Self {
            inspect: json!({ "Image": format!("sha256:{:064}", 0) }),
            stopping: false,
            network_owner: None,
            cut_off: false,
            infra: None,
            guests: BTreeMap::new(),
        };
        for row in Container::FIELDS {
            if let Some(set) = row.sampler {
                let set = set(&mut sample, fields.remove(row.name));
                set.map_err(|error| anyhow!("`{}`: {error}", row.name))?;
            }
        }
        Ok(sample)
    }

    pub fn container(self) -> anyhow::Result<Container> {
        let read = Container::read(self.inspect.to_string().as_bytes())?;
        let port = |port: &Port| Port {
            guests: self
                .guests
                .get(&(port.port, port.protocol.clone()))
                .map(|guests| guests.as_str().into()),
            ..port.clone()
        };
        Ok(Container {
            stopping: self.stopping,
            network_owner: self.network_owner.map(Into::into),
            cut_off: self.cut_off,
            infra: self.infra.or(read.infra),
            ports: read.ports.iter().map(port).collect(),
            ..read
        })
    }

    /// Sets a member of the inspect object, which dots lead to.
    pub fn set<T: DeserializeOwned + Serialize>(
        &mut self,
        place: &str,
        given: Option<Value>,
        default: T,
    ) -> serde_json::Result<()> {
        let value = or_default(given, default)?;
        self.put(place, serde_json::to_value(value)?);
        Ok(())
    }

    pub fn set_id(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        if let Some(id) = given {
            self.put("Id", serde_json::from_value::<String>(id)?.into());
        }
        Ok(())
    }

    /// Two samples of one name are the same container, unless the test gives them ids.
    pub fn set_name(&mut self, given: Option<Value>, default: &str) -> serde_json::Result<()> {
        let name = or_default(given, default.to_owned())?;
        if self.inspect.get("Id").is_none() {
            let digest = Sha256::digest(name.as_bytes());
            let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            self.put("Id", digits.concat().into());
        }
        self.put("Name", format!("/{name}").into());
        Ok(())
    }

    pub fn set_env(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        let env = or_default(given, BTreeMap::<String, String>::new())?;
        let env = env.iter().map(|(name, value)| format!("{name}={value}"));
        self.put("Config.Env", env.collect());
        Ok(())
    }

    pub fn set_status(&mut self, given: Option<Value>, default: &str) -> serde_json::Result<()> {
        let status = or_default(given, default.to_owned())?;
        let is_running = !matches!(status.as_str(), "created" | "exited" | "dead" | "removing");
        self.put("State.Running", is_running.into());
        self.put("State.Status", status.into());
        Ok(())
    }

    pub fn set_stopping(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        self.stopping = or_default(given, false)?;
        Ok(())
    }

    pub fn set_network_owner(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        self.network_owner = or_default(given, None)?;
        Ok(())
    }

    pub fn set_cut_off(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        self.cut_off = or_default(given, false)?;
        Ok(())
    }

    pub fn set_infra(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        self.infra = or_default(given, None)?;
        Ok(())
    }

    pub fn set_ports(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        let ports = match given {
            Some(ports) => list(ports)?,
            None => vec![SamplePort {
                port: 80,
                protocol: tcp(),
                host_ip: every_address(),
                host_port: Some(32768),
                bindings: Vec::new(),
                guests: None,
            }],
        };
        let (mut exposed, mut published) = (Map::new(), Map::new());
        for port in ports {
            let name = format!("{}/{}", port.port, port.protocol);
            exposed.insert(name.clone(), json!({}));
            if let Some(guests) = port.guests {
                self.guests.insert((port.port, port.protocol), guests);
            }
            let mut bindings = port.bindings;
            if let Some(host_port) = port.host_port {
                bindings.push(SampleBinding {
                    ip: port.host_ip,
                    port: host_port,
                });
            }
            let is_published = !bindings.is_empty();
            let bindings = bindings.iter().map(
                |binding| json!({ "HostIp": binding.ip, "HostPort": binding.port.to_string() }),
            );
            let bindings = is_published.then(|| bindings.collect());
            published.insert(name, bindings.unwrap_or(Value::Null));
        }
        self.put("Config.ExposedPorts", exposed.into());
        self.put("NetworkSettings.Ports", published.into());
        Ok(())
    }

    pub fn set_networks(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        let bridge = SampleNetwork {
            ip: "172.17.0.2".to_owned(),
            ..SampleNetwork::default()
        };
        let default = || BTreeMap::from([("bridge".to_owned(), bridge)]);
        let networks = given.map_or_else(|| Ok(default()), serde_json::from_value)?;
        let endpoint = |(name, network): (String, SampleNetwork)| {
            let endpoint = json!({
                "IPAddress": network.ip, "GlobalIPv6Address": network.ip6, "Aliases": network.aliases,
                "Gateway": network.gateway, "IPv6Gateway": network.gateway6,
            });
            (name, endpoint)
        };
        let networks: Map<String, Value> = networks.into_iter().map(endpoint).collect();
        self.put("NetworkSettings.Networks", networks.into());
        Ok(())
    }

    /// Lays an object over the inspect object that the other fields have made.
    pub fn lay_over(&mut self, given: Option<Value>) -> serde_json::Result<()> {
        let over = or_default(given, Map::new())?;
        merge(&mut self.inspect, Value::Object(over));
        Ok(())
    }

    fn put(&mut self, place: &str, value: Value) {
        let mut member = &mut self.inspect;
        for name in place.split('.') {
            // It makes an object where there is none.
            member = &mut member[name];
        }
        *member = value;
    }
}

fn or_default<T: DeserializeOwned>(given: Option<Value>, default: T) -> serde_json::Result<T> {
    given.map_or(Ok(default), serde_json::from_value)
}

fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

fn tcp() -> String {
    "tcp".to_owned()
}

fn every_address() -> String {
    "0.0.0.0".to_owned()
}

/// Reads a list. An empty table of Lua is a list and a map alike, and comes as an empty object.
fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(value: D) -> Result<Vec<T>, D::Error> {
    match Value::deserialize(value)? {
        Value::Object(fields) if fields.is_empty() => Ok(Vec::new()),
        list => serde_json::from_value(list).map_err(D::Error::custom),
    }
}
