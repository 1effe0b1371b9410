//! The module `decisions`, with which bundled policies make their tables of decisions. It is written in Lua; this file
//! adds what Lua cannot do here: names for messages, and errors that blame a function.

use std::rc::Rc;

use mlua::{Error, Function, Lua, Result, Table};

use super::context::Context;
use super::failure::Failure;
use crate::base::text::nearest;

pub fn module(lua: &Lua, context: &Rc<Context>) -> Result<Table> {
    let host = lua.create_table()?;
    let names = context.names.clone();
    host.set(
        "name",
        lua.create_function(move |_, (function, name): (Function, String)| {
            names.add(&function, &name)
        })?,
    )?;
    host.set("fail", lua.create_function(fail)?)?;
    host.set("refuse", lua.create_function(refuse)?)?;
    host.set(
        "nearest",
        lua.create_function(|_, (name, known): (String, Vec<String>)| {
            Ok(nearest(&name, known.iter().map(String::as_str)).map(str::to_owned))
        })?,
    )?;
    // The `=` keeps its lines out of messages.
    let chunk = lua.load(include_str!("decisions.lua"));
    let module = chunk.set_name("=decisions").call(host)?;
    context.frozen().freeze(module)
}

/// Raises an error that blames the line that uses a table of decisions.
fn fail(_: &Lua, message: String) -> Result<()> {
    Err(Failure::raise(message))
}

/// Raises an error that blames a decision, by its name, for its result.
fn refuse(_: &Lua, (function, name, message): (Function, String, String)) -> Result<()> {
    let failure = Failure::of(&function, Some(name), message);
    Err(Error::external(failure))
}
