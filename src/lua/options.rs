//! `options`: what the command line says, read-only.

use mlua::{Lua, Result, Table};

use super::Options;
use super::frozen::Frozen;

/// The module's table.
pub fn module(lua: &Lua, options: &Options, frozen: &Frozen) -> Result<Table> {
    let table = lua.create_table()?;
    for (name, value) in &options.set {
        table.set(name.as_str(), value.as_str())?;
    }
    table.set("prefix", options.prefix.as_str())?;
    table.set("ttl", options.ttl)?;
    table.set("host_ip", options.host_ip.as_str())?;
    table.set("instance", options.instance.as_str())?;
    frozen.freeze(table)
}
