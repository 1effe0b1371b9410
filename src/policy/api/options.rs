//! The module `options`: the settings of the command line and facts about the host, read-only. The names of `--set` that
//! no script reads are told, because they are likely misspelt.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use mlua::{Lua, Result, Table, Value};
use tracing::warn;

use crate::base::address::interfaces;
use crate::base::text::nearest;
use crate::policy::Options;
use crate::policy::sandbox::Context;
use crate::policy::sandbox::frozen::Frozen;

/// The names and values of `--set`, and which of the names scripts have read.
#[derive(Debug, Default)]
pub struct Given {
    values: Vec<(String, String)>,
    read: RefCell<BTreeSet<String>>,
    is_told: Cell<bool>,
}

impl Given {
    pub fn new(values: &[(String, String)]) -> Self {
        Self {
            values: values.to_vec(),
            ..Self::default()
        }
    }

    /// Logs, once, each name that no script has read so far, nor mentions.
    pub fn tell_unread(&self, context: &Context) {
        if self.is_told.replace(true) {
            return;
        }
        let read = self.read.borrow();
        for (name, _) in &self.values {
            if !read.contains(name) && !context.mentions(name) {
                let like = nearest(name, read.iter().map(String::as_str));
                let hint = like.map_or(String::new(), |like| format!("; did you mean `{like}`?"));
                warn!("--set {name}=… is never read{hint}");
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.values.iter().rev();
        let (_, value) = values.find(|(given, _)| given == name)?;
        Some(value)
    }

    /// Gives a table these values as fields, each noted when it is read.
    fn add_to(self: &Rc<Self>, lua: &Lua, table: &Table) -> Result<()> {
        let metatable = lua.create_table()?;
        let given = Rc::clone(self);
        metatable.raw_set(
            "__index",
            lua.create_function(move |_, (_, name): (Table, Value)| {
                let Value::String(name) = name else {
                    return Ok(None);
                };
                let name = name.to_string_lossy();
                let value = given.get(&name).map(str::to_owned);
                given.read.borrow_mut().insert(name);
                Ok(value)
            })?,
        )?;
        // Who goes through all fields reads all of them.
        let given = Rc::clone(self);
        metatable.raw_set(
            "fill",
            lua.create_function(move |_, table: Table| {
                for (name, value) in &given.values {
                    given.read.borrow_mut().insert(name.clone());
                    table.raw_set(name.as_str(), value.as_str())?;
                }
                Ok(())
            })?,
        )?;
        table.set_metatable(Some(metatable))
    }
}

pub fn module(lua: &Lua, context: &Context, given: &Rc<Given>, options: &Options) -> Result<Table> {
    let table = of_host(lua, context.frozen(), given)?;
    table.raw_set("prefix", options.prefix.as_str())?;
    table.raw_set("ttl", options.ttl)?;
    table.raw_set("host_ip", options.host_ip.as_str())?;
    table.raw_set("instance", options.instance.as_str())?;
    context.frozen().freeze(table)
}

/// A table with the values of `--set`, and with what every policy is told of the host.
pub fn of_host(lua: &Lua, frozen: &Frozen, given: &Rc<Given>) -> Result<Table> {
    let table = lua.create_table()?;
    given.add_to(lua, &table)?;
    if given.get("hostname").is_none() {
        let uname = rustix::system::uname();
        table.raw_set("hostname", &*uname.nodename().to_string_lossy())?;
    }
    table.raw_set("interfaces", interface_addresses(lua, frozen)?)?;
    Ok(table)
}

/// The addresses of this host's network interfaces, by name.
fn interface_addresses(lua: &Lua, frozen: &Frozen) -> Result<Table> {
    let by_name = lua.create_table()?;
    for (name, addresses) in interfaces() {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        by_name.set(name, frozen.strings(lua, &addresses)?)?;
    }
    frozen.freeze(by_name)
}
