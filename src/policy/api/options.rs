//! The module `options`: the settings of the command line and the addresses of the host, read-only.

use mlua::{Lua, Result, Table};

use crate::base::address::interfaces;
use crate::policy::Options;
use crate::policy::sandbox::Context;

pub fn module(lua: &Lua, context: &Context, options: &Options) -> Result<Table> {
    let frozen = context.frozen();
    let table = lua.create_table()?;
    for (name, value) in &options.set {
        table.set(name.as_str(), value.as_str())?;
    }
    table.set("prefix", options.prefix.as_str())?;
    table.set("ttl", options.ttl)?;
    table.set("host_ip", options.host_ip.as_str())?;
    table.set("instance", options.instance.as_str())?;
    let by_name = lua.create_table()?;
    for (name, addresses) in interfaces() {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        by_name.set(name, frozen.strings(lua, &addresses)?)?;
    }
    table.set("interfaces", frozen.freeze(by_name)?)?;
    frozen.freeze(table)
}
