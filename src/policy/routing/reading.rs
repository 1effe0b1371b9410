//! Reads the results of a reading policy's functions. They are converted by hand, so that a message names the field.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use mlua::{MultiValue, Table, Value};

use crate::base::text::{printable, quote};
use crate::policy::sandbox::frozen::Frozen;
use crate::routes::{Listener, Located, Part, Server};

/// What a policy said of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// With the servers that are left out, and why.
    Listener(Arc<Listener>, Vec<(String, String)>),
    /// It is left out, with the reason.
    Nothing(String),
}

/// Reads the place of a key, or the policy's reason for leaving it out. The outer error is for a wrong result.
pub fn read_located(
    frozen: &Frozen,
    values: &MultiValue,
) -> Result<Result<Located, String>, String> {
    let table = match values.front() {
        Some(Value::Table(table)) => table,
        None | Some(Value::Nil | Value::Boolean(false)) => return Ok(Err(reason(values))),
        Some(other) => {
            return Err(format!(
                "returned {}; return a table with `service`, `index` and `port`, `member` or `attribute`, or nil and the \
                 reason",
                a(other)
            ));
        }
    };
    let fields = Fields::of(frozen, table)?;
    fields.only(&[
        "service",
        "index",
        "port",
        "member",
        "address",
        "attribute",
        "value",
    ])?;
    let service = fields.text("service")?.ok_or("returned no `service`")?;
    let index = fields.text("index")?.ok_or("returned no `index`")?;
    let index = index
        .parse()
        .map_err(|_| format!("returned the `index` {}, which is no number", quote(&index)))?;
    let pair = |name: &str, text: &str| -> Result<(Arc<str>, Arc<str>), String> {
        let name = fields.text(name)?.unwrap_or_default();
        let text = fields
            .text(text)?
            .ok_or_else(|| format!("returned no `{text}`"))?;
        Ok((name.into(), text.into()))
    };
    let of_port = fields.text("port")?;
    let part = if fields.has("member") {
        let (name, address) = pair("member", "address")?;
        Part::Member {
            name,
            address,
            port: of_port,
        }
    } else if let Some(port) = of_port {
        Part::Port(port)
    } else if fields.has("attribute") {
        let (name, value) = pair("attribute", "value")?;
        Part::Attribute { name, value }
    } else {
        return Err("returned neither `port` nor `member` nor `attribute`".to_owned());
    };
    Ok(Ok(Located {
        service: service.into(),
        index,
        part,
    }))
}

/// Reads what a policy said of a service.
pub fn read_listener(frozen: &Frozen, values: &MultiValue) -> Result<Said, String> {
    let table = match values.front() {
        Some(Value::Table(table)) => table,
        None | Some(Value::Nil | Value::Boolean(false)) => {
            return Ok(Said::Nothing(reason(values)));
        }
        Some(other) => {
            return Err(format!(
                "returned {}; return a table with `listen` and `servers`, or nil and the reason",
                a(other)
            ));
        }
    };
    let fields = Fields::of(frozen, table)?;
    fields.only(&["listen", "shared", "servers"])?;
    let (servers, left_out) = fields.sound_servers(frozen)?;
    let listener = Listener {
        listen: fields.addresses("listen")?,
        shared: fields.addresses("shared")?,
        servers,
    };
    Ok(Said::Listener(Arc::new(listener), left_out))
}

/// The fields of a table that a script has made.
pub struct Fields(Table);

impl Fields {
    pub fn of(frozen: &Frozen, table: &Table) -> Result<Self, String> {
        let contents = frozen.contents(table);
        contents.map(Self).map_err(|error| error.to_string())
    }

    pub fn get(&self, name: &str) -> Value {
        self.0.raw_get(name).unwrap_or(Value::Nil)
    }

    fn has(&self, name: &str) -> bool {
        !self.get(name).is_nil()
    }

    /// Refuses fields of other names, which are misspelt.
    pub fn only(&self, names: &[&str]) -> Result<(), String> {
        for pair in self.0.pairs::<Value, Value>() {
            let (name, _) = pair.map_err(|error| error.to_string())?;
            let name = match &name {
                Value::String(name) => name.to_string_lossy(),
                other => a(other),
            };
            if !names.contains(&name.as_str()) {
                return Err(format!(
                    "returned the unknown field {}; there are `{}`",
                    quote(&name),
                    names.join("`, `")
                ));
            }
        }
        Ok(())
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.get(name) {
            Value::Nil => Ok(None),
            value => read_text(&value)
                .map(Some)
                .map_err(|why| format!("returned a `{name}` that {why}")),
        }
    }

    pub fn list(&self, frozen: &Frozen, name: &str) -> Result<Vec<Value>, String> {
        match self.get(name) {
            Value::Nil => Ok(Vec::new()),
            Value::Table(list) => {
                let list = frozen.contents(&list).map_err(|error| error.to_string())?;
                let items = list.sequence_values::<Value>();
                let items = items.collect::<mlua::Result<Vec<Value>>>();
                items.map_err(|error| error.to_string())
            }
            other => Err(format!(
                "returned `{name}` as {} and not as a list",
                a(&other)
            )),
        }
    }

    /// One address, or a list of them.
    fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        let texts = match self.get(name) {
            Value::Nil => Vec::new(),
            Value::Table(list) => {
                let list = list.sequence_values::<Value>();
                let items = list.collect::<mlua::Result<Vec<Value>>>();
                items.map_err(|error| error.to_string())?
            }
            one => vec![one],
        };
        let mut addresses = Vec::with_capacity(texts.len());
        for text in texts {
            let text = read_text(&text).map_err(|why| format!("returned a `{name}` that {why}"))?;
            let address =
                read_address(&text).map_err(|why| format!("returned the `{name}` {why}"))?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    pub fn servers(&self, frozen: &Frozen) -> Result<Vec<Server>, String> {
        let mut names = HashSet::new();
        let servers = self.list(frozen, "servers")?.into_iter().enumerate();
        let servers =
            servers.map(|(place, server)| Self::read_server(frozen, place, server, &mut names));
        servers
            .collect::<Result<Vec<Server>, String>>()
            .map(with_shared_options)
    }

    /// Reads a server of a list, whose other servers have these names.
    fn read_server(
        frozen: &Frozen,
        place: usize,
        server: Value,
        names: &mut HashSet<Arc<str>>,
    ) -> Result<Server, String> {
        let at = |why: String| format!("returned server {}, which {why}", place + 1);
        let Value::Table(table) = server else {
            return Err(at(format!("is {} and not a table", a(&server))));
        };
        let server = Self::of(frozen, &table).and_then(|fields| fields.server());
        let server = server.map_err(at)?;
        if !names.insert(Arc::clone(&server.name)) {
            return Err(at(format!(
                "has the name {} as another has",
                quote(&server.name)
            )));
        }
        Ok(server)
    }

    /// The servers that have an address, and the others with the reason: a member with a host name costs itself alone.
    #[expect(
        clippy::type_complexity,
        reason = "servers, and names with reasons, for one caller"
    )]
    fn sound_servers(
        &self,
        frozen: &Frozen,
    ) -> Result<(Vec<Server>, Vec<(String, String)>), String> {
        let (mut left_out, mut servers) = (Vec::new(), Vec::new());
        for server in self.list(frozen, "servers")? {
            if let Value::Table(table) = &server {
                let fields = Self::of(frozen, table)?;
                let address = fields.text("address")?.unwrap_or_default();
                if let Err(why) = read_address(&address) {
                    let name = fields.text("name")?.unwrap_or_default();
                    left_out.push((name, format!("its address is {why}")));
                    continue;
                }
            }
            servers.push(server);
        }
        let mut names = HashSet::new();
        let servers = servers.into_iter().enumerate();
        let servers =
            servers.map(|(place, server)| Self::read_server(frozen, place, server, &mut names));
        let servers = servers.collect::<Result<Vec<Server>, String>>()?;
        Ok((with_shared_options(servers), left_out))
    }

    fn server(&self) -> Result<Server, String> {
        self.only(&["name", "address", "options"])?;
        let name = self.text("name")?.ok_or("has no `name`")?;
        let address = self.text("address")?.ok_or("has no `address`")?;
        let address = read_address(&address).map_err(|why| format!("has the `address` {why}"))?;
        let options = self.text("options")?.unwrap_or_default();
        Ok(Server {
            name: name.into(),
            address,
            options: options.into(),
        })
    }
}

/// The servers of a service mostly have the same options: one text for all saves most of their memory.
fn with_shared_options(mut servers: Vec<Server>) -> Vec<Server> {
    let mut last: Option<Arc<str>> = None;
    for server in &mut servers {
        match &last {
            Some(last) if *last == server.options => server.options = Arc::clone(last),
            _ => last = Some(Arc::clone(&server.options)),
        }
    }
    servers
}

fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() > 0)
        .ok_or_else(|| format!("{}, which is not an IP address and a port", quote(text)))
}

pub fn read_text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => match text.to_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(format!("is not UTF-8: {}", quote(&text.to_string_lossy()))),
        },
        Value::Integer(number) => Ok(number.to_string()),
        other => Err(format!("is {} and not a string", a(other))),
    }
}

/// The second result of a function that returned nil.
fn reason(values: &MultiValue) -> String {
    match values.get(1) {
        Some(Value::String(why)) => printable(&why.to_string_lossy()),
        _ => "the policy leaves it out".to_owned(),
    }
}

/// A value's type with its article.
pub fn a(value: &Value) -> String {
    match value.type_name() {
        "nil" => "nil".to_owned(),
        "integer" | "number" => "a number".to_owned(),
        name => format!("a {name}"),
    }
}
