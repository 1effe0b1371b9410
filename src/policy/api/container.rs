//! A container as a policy gets it: a read-only table whose parts are made when they are first asked for.

use std::sync::Arc;

use mlua::{AnyUserData, Function, Lua, Result, Table, UserData, Value};

use super::json;
use crate::container::{Binding, Container, Image, Network, Port};
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::frozen::Frozen;

/// The fields of a container, as the API has them.
const FIELDS: [&str; 16] = [
    "id",
    "short_id",
    "name",
    "hostname",
    "image",
    "labels",
    "env",
    "status",
    "health",
    "stopping",
    "ports",
    "networks",
    "network_mode",
    "created",
    "started",
    "inspect",
];

/// Makes tables of containers.
#[derive(Clone)]
pub struct Containers {
    /// Makes the table of a container from its handle.
    make: Function,
}

/// Makes the parts of a container's table. Each is a record, which knows what fields it can have.
struct Parts {
    frozen: Frozen,
    image: Table,
    port: Table,
    binding: Table,
    network: Table,
}

/// The container behind a table.
struct Handle(Arc<Container>);

impl UserData for Handle {}

impl Containers {
    /// From the functions of the prelude.
    pub fn new(lua: &Lua, prelude: &Table, frozen: Frozen) -> Result<Self> {
        let record: Function = prelude.get("record")?;
        let lazy: Function = prelude.get("lazy")?;
        let parts = Parts {
            image: record.call((
                "an image",
                [
                    "reference",
                    "registry",
                    "repository",
                    "name",
                    "tag",
                    "digest",
                    "id",
                ]
                .as_slice(),
            ))?,
            port: record.call((
                "a port",
                [
                    "port",
                    "protocol",
                    "index",
                    "host_ip",
                    "host_port",
                    "bindings",
                ]
                .as_slice(),
            ))?,
            binding: record.call(("a binding", ["ip", "port"].as_slice()))?,
            network: record.call(("a network", ["ip", "ip6", "aliases"].as_slice()))?,
            frozen,
        };
        let make = lua.create_function(move |lua, (handle, field): (AnyUserData, String)| {
            let container = Arc::clone(&handle.borrow::<Handle>()?.0);
            parts.field(lua, &container, &field)
        })?;
        Ok(Self {
            make: lazy.call(("a container", FIELDS.as_slice(), make))?,
        })
    }

    /// The table of a container.
    pub fn table(&self, lua: &Lua, container: &Arc<Container>) -> Result<Table> {
        self.make
            .call(lua.create_userdata(Handle(Arc::clone(container)))?)
    }
}

impl Parts {
    fn field(&self, lua: &Lua, container: &Container, field: &str) -> Result<Value> {
        let text = |text: &str| Ok(Value::String(lua.create_string(text)?));
        match field {
            "id" => text(&container.id),
            "short_id" => text(container.short_id()),
            "name" => text(&container.name),
            "hostname" => text(&container.hostname),
            "status" => text(&container.status),
            "health" => text(&container.health),
            "network_mode" => text(&container.network_mode),
            "created" => text(&container.created),
            "started" => text(&container.started),
            "stopping" => Ok(Value::Boolean(container.stopping)),
            "labels" => Ok(Value::Table(self.frozen.map(lua, container.labels.iter())?)),
            "env" => Ok(Value::Table(self.frozen.map(lua, container.env.iter())?)),
            "image" => self.image(lua, &container.image),
            "ports" => self.list(lua, &container.ports, |port| self.port(lua, port)),
            "networks" => {
                let networks = lua.create_table()?;
                for (name, network) in container.networks.iter() {
                    networks.raw_set(name, self.network(lua, network)?)?;
                }
                Ok(Value::Table(self.frozen.freeze(networks)?))
            }
            "inspect" => {
                let inspect = container
                    .inspect
                    .object()
                    .map_err(|error| Failure::raise(format!("cannot read `inspect`: {error}")))?;
                self.frozen
                    .freeze_deeply(json::to_lua(lua, &inspect, &Value::Nil)?)
            }
            _ => Ok(Value::Nil),
        }
    }

    fn image(&self, lua: &Lua, image: &Image) -> Result<Value> {
        let table = lua.create_table()?;
        table.raw_set("reference", image.reference.as_str())?;
        table.raw_set("registry", image.registry.as_deref())?;
        table.raw_set("repository", image.repository.as_deref())?;
        table.raw_set("name", image.name.as_deref())?;
        table.raw_set("tag", image.tag.as_deref())?;
        table.raw_set("digest", image.digest.as_deref())?;
        table.raw_set("id", image.id.as_str())?;
        self.sealed(table, &self.image)
    }

    fn port(&self, lua: &Lua, port: &Port) -> Result<Value> {
        let table = lua.create_table()?;
        table.raw_set("port", port.port)?;
        table.raw_set("protocol", port.protocol.as_str())?;
        table.raw_set("index", port.index)?;
        if let Some(best) = port.bindings.first() {
            table.raw_set("host_ip", best.ip.as_str())?;
            table.raw_set("host_port", best.port)?;
        }
        let binding = |binding: &Binding| {
            let table = lua.create_table()?;
            table.raw_set("ip", binding.ip.as_str())?;
            table.raw_set("port", binding.port)?;
            self.sealed(table, &self.binding)
        };
        table.raw_set("bindings", self.list(lua, &port.bindings, binding)?)?;
        self.sealed(table, &self.port)
    }

    fn network(&self, lua: &Lua, network: &Network) -> Result<Value> {
        let table = lua.create_table()?;
        table.raw_set("ip", network.ip.as_deref())?;
        table.raw_set("ip6", network.ip6.as_deref())?;
        table.raw_set("aliases", self.frozen.strings(lua, &network.aliases)?)?;
        self.sealed(table, &self.network)
    }

    fn list<T>(&self, lua: &Lua, items: &[T], make: impl Fn(&T) -> Result<Value>) -> Result<Value> {
        let list = lua.create_table_with_capacity(items.len(), 0)?;
        for item in items {
            list.raw_push(make(item)?)?;
        }
        Ok(Value::Table(self.frozen.freeze(list)?))
    }

    /// A read-only record, which says so when it is asked for a field that it cannot have.
    fn sealed(&self, contents: Table, record: &Table) -> Result<Value> {
        contents.set_metatable(Some(record.clone()))?;
        Ok(Value::Table(self.frozen.freeze(contents)?))
    }
}
