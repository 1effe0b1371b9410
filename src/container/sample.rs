//! Containers that a policy's tests make up. A few fields become a whole inspect object, which is then read as Docker's
//! replies are. The Lua module `test` calls this.

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Container;

/// The fields that a test may give; each has a default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sample {
    id: Option<String>,
    name: String,
    hostname: String,
    image: String,
    labels: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    status: String,
    health: String,
    stopping: bool,
    ports: Vec<SamplePort>,
    networks: BTreeMap<String, SampleNetwork>,
    network_mode: String,
    created: String,
    started: String,
    inspect: Map<String, Value>,
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
    #[serde(default)]
    bindings: Vec<SampleBinding>,
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
    aliases: Vec<String>,
}

impl Default for Sample {
    fn default() -> Self {
        let bridge = SampleNetwork {
            ip: "172.17.0.2".to_owned(),
            ..SampleNetwork::default()
        };
        let time = "2026-01-01T00:00:00Z";
        Self {
            id: None,
            name: "web-1".to_owned(),
            hostname: "web-1".to_owned(),
            image: "web:latest".to_owned(),
            labels: BTreeMap::new(),
            env: BTreeMap::new(),
            status: "running".to_owned(),
            health: "none".to_owned(),
            stopping: false,
            ports: vec![SamplePort {
                port: 80,
                protocol: tcp(),
                host_ip: every_address(),
                host_port: Some(32768),
                bindings: Vec::new(),
            }],
            networks: BTreeMap::from([("bridge".to_owned(), bridge)]),
            network_mode: "bridge".to_owned(),
            created: time.to_owned(),
            started: time.to_owned(),
            inspect: Map::new(),
        }
    }
}

impl Sample {
    /// The error names a field that is unknown or has a wrong type.
    pub fn read(mut fields: Value) -> anyhow::Result<Self> {
        make_lists(&mut fields);
        serde_json::from_value(fields).map_err(|error| anyhow!("{error}"))
    }

    /// The container that these fields describe.
    pub fn container(self) -> anyhow::Result<Container> {
        let stopping = self.stopping;
        let container = Container::read(self.inspect().to_string().as_bytes())?;
        Ok(Container {
            stopping,
            ..container
        })
    }

    fn inspect(self) -> Value {
        // Two containers with one name are the same, unless the test gives ids.
        let id = self.id.unwrap_or_else(|| {
            let digest = Sha256::digest(self.name.as_bytes());
            let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            digits.concat()
        });
        let env: Vec<String> = self
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let (mut exposed, mut published) = (Map::new(), Map::new());
        for port in self.ports {
            let name = format!("{}/{}", port.port, port.protocol);
            exposed.insert(name.clone(), json!({}));
            let mut bindings = port.bindings;
            if let Some(host_port) = port.host_port {
                bindings.push(SampleBinding {
                    ip: port.host_ip,
                    port: host_port,
                });
            }
            let bindings: Vec<Value> = bindings
                .iter()
                .map(
                    |binding| json!({ "HostIp": binding.ip, "HostPort": binding.port.to_string() }),
                )
                .collect();
            published.insert(
                name,
                if bindings.is_empty() {
                    Value::Null
                } else {
                    bindings.into()
                },
            );
        }
        let networks: Map<String, Value> = self
            .networks
            .into_iter()
            .map(|(name, network)| {
                let endpoint = json!({
                    "IPAddress": network.ip, "GlobalIPv6Address": network.ip6, "Aliases": network.aliases,
                });
                (name, endpoint)
            })
            .collect();
        let running = !matches!(
            self.status.as_str(),
            "created" | "exited" | "dead" | "removing"
        );
        let mut inspect = json!({
            "Id": id,
            "Name": format!("/{}", self.name),
            "Created": self.created,
            "Image": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "Config": {
                "Hostname": self.hostname, "Image": self.image, "Labels": self.labels, "Env": env,
                "ExposedPorts": exposed,
            },
            "HostConfig": { "NetworkMode": self.network_mode },
            "State": {
                "Status": self.status, "Running": running, "StartedAt": self.started,
                "Health": { "Status": self.health },
            },
            "NetworkSettings": { "Ports": published, "Networks": networks },
        });
        merge(&mut inspect, Value::Object(self.inspect));
        inspect
    }
}

/// Replaces fields of `under` by those of `over`, at any depth.
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

/// Turns an empty object into a list where a list belongs: an empty Lua table may be either.
fn make_lists(value: &mut Value) {
    if let Value::Object(fields) = value {
        for (name, field) in fields {
            let is_empty = field.as_object().is_some_and(Map::is_empty);
            if is_empty && matches!(name.as_str(), "ports" | "bindings" | "aliases") {
                *field = json!([]);
            }
            make_lists(field);
        }
    }
    if let Value::Array(items) = value {
        items.iter_mut().for_each(make_lists);
    }
}
