//! The parts of the module `test` that reading policies need: services, and the files that a policy makes of them.

use std::net::SocketAddr;
use std::rc::Rc;

use mlua::{Lua, Result, Table, Value};

use crate::policy::routing::{FileReader, files_of, read_listener_of, with_listener};
use crate::policy::sandbox::Context;
use crate::policy::sandbox::failure::Failure;

/// Adds `test.service` and `test.file`.
pub fn add_to(module: &Table, lua: &Lua, context: &Rc<Context>) -> Result<()> {
    let shared = Rc::clone(context);
    module.set(
        "service",
        lua.create_function(move |lua, fields: Option<Table>| service(lua, &shared, fields))?,
    )?;
    let shared = Rc::clone(context);
    module.set(
        "file",
        lua.create_function(
            move |lua, (policy, services, name): (Table, Vec<Table>, String)| {
                file(lua, &shared, &policy, services, &name)
            },
        )?,
    )?;
    Ok(())
}

/// A service with these fields. Its members may be given by their addresses alone.
fn service(lua: &Lua, context: &Context, fields: Option<Table>) -> Result<Table> {
    let service = lua.create_table()?;
    service.raw_set("name", "web")?;
    service.raw_set("index", 1)?;
    service.raw_set("port", 8005)?;
    service.raw_set("protocol", "tcp")?;
    service.raw_set("attributes", lua.create_table()?)?;
    service.raw_set("members", lua.create_table()?)?;
    service.raw_set("created", 1)?;
    service.raw_set("revision", 1)?;
    let fields = match fields {
        Some(fields) => fields,
        None => lua.create_table()?,
    };
    for pair in fields.pairs::<String, Value>() {
        let (name, value) = pair?;
        if service.raw_get::<Value>(name.as_str())?.is_nil() {
            return Err(Failure::raise(format!(
                "test.service: a service has no field `{name}`"
            )));
        }
        service.raw_set(name, value)?;
    }
    let members: Table = service.raw_get("members")?;
    let members = members.sequence_values::<Value>().enumerate();
    let members = members.map(|(place, member)| match member? {
        Value::String(address) => member_at(lua, place + 1, &address.to_string_lossy()),
        Value::Table(member) => Ok(member),
        other => Err(Failure::raise(format!(
            "test.service: a member is a table or an address, not a {}",
            other.type_name()
        ))),
    });
    let members = members.collect::<Result<Vec<Table>>>()?;
    service.raw_set("members", lua.create_sequence_from(members)?)?;
    match context.frozen().freeze_deeply(Value::Table(service))? {
        Value::Table(table) => Ok(table),
        _ => Err(Failure::raise("test.service: it has no table")),
    }
}

fn member_at(lua: &Lua, place: usize, address: &str) -> Result<Table> {
    let parsed: SocketAddr = address.parse().map_err(|_| {
        Failure::raise(format!(
            "test.service: `{address}` is not an IP address and a port"
        ))
    })?;
    let member = lua.create_table()?;
    member.raw_set("name", format!("c{place}"))?;
    member.raw_set("host", parsed.ip().to_string())?;
    member.raw_set("port", parsed.port())?;
    member.raw_set("address", address)?;
    member.raw_set("created", place)?;
    Ok(member)
}

/// The text of a file that a policy makes of services, each of which gets the addresses that it asks for.
fn file(
    lua: &Lua,
    context: &Context,
    policy: &Table,
    services: Vec<Table>,
    name: &str,
) -> Result<String> {
    let functions: (Value, Value) = (policy.get("listener")?, policy.get("files")?);
    let (Value::Function(listener), Value::Function(files)) = functions else {
        return Err(Failure::raise(
            "test.file takes a policy, a list of services, and a file's name",
        ));
    };
    let mut tables = Vec::with_capacity(services.len());
    for service in services {
        // So a failure names the line in the policy and not the test's.
        let values = context.call_within((&listener, &service));
        let values = values.map_err(mlua::Error::external)?;
        let said = read_listener_of(context, &values).map_err(Failure::raise)?;
        if let Some(listener) = said {
            tables.push(with_listener(lua, context.frozen(), &service, &listener)?);
        }
    }
    let reader = FileReader::new(lua, context)?;
    let tables = lua.create_sequence_from(tables)?;
    let made: Vec<_> = files_of(lua, context, &reader, &files, tables)?;
    made.into_iter()
        .find(|file| *file.name == *name)
        .map(|file| file.text())
        .ok_or_else(|| Failure::raise(format!("test.file: the policy makes no file `{name}`")))
}
