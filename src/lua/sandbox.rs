//! A Lua state without a way out: no files, no processes, no bytecode, bounded in memory and time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{
    Function, HookTriggers, Lua, LuaOptions, MultiValue, Result, StdLib, Table, Value, VmState,
};
use sha2::Digest as _;

use super::container::Containers;
use super::failure::{self, Failure, Place};
use super::frozen::Frozen;
use super::{Host, Phase, Source, bundled, docker, etcd, json, log, options, outcome, test};
use crate::file;

/// The most memory that a script may use, in bytes.
const MEMORY_LIMIT: usize = 64 * 1024 * 1024;
/// After how many instructions the time is looked at: some tens of microseconds.
const INSTRUCTIONS: u32 = 10_000;
/// The globals of Lua that read files, run bytecode or stop the garbage collector.
const FORBIDDEN: [&str; 4] = ["dofile", "loadfile", "collectgarbage", "warn"];
/// What is left of `os`.
const OS: [&str; 5] = ["clock", "date", "difftime", "getenv", "time"];

/// A state with the sandbox's globals and modules.
pub(super) fn state(host: &Rc<Host>) -> Result<Lua> {
    let libraries = StdLib::COROUTINE
        | StdLib::TABLE
        | StdLib::STRING
        | StdLib::UTF8
        | StdLib::MATH
        | StdLib::OS;
    let lua = Lua::new_with(libraries, LuaOptions::default())?;
    lua.set_memory_limit(MEMORY_LIMIT)?;
    if let Source::Once(_) = host.world.source {
        // Such a state soon ends with all that it has; at the limit Lua collects its garbage all the same.
        lua.gc_stop();
    }
    let clock = Rc::clone(host);
    lua.set_global_hook(
        HookTriggers::new().every_nth_instruction(INSTRUCTIONS),
        move |_, _| {
            clock.check_time()?;
            Ok(VmState::Continue)
        },
    )?;
    let prelude = prelude(&lua, host)?;
    restrict(&lua)?;
    host.protected.replace(Some(prelude.get("protected")?));
    let frozen = Frozen::new(&prelude)?;
    let containers = Containers::new(&lua, &prelude, frozen.clone())?;
    let tables = docker::Tables::new(&lua, &prelude, containers.clone())?;
    host.tables.replace(Some(tables));
    let mut modules = HashMap::from([
        ("docker".to_owned(), docker::module(&lua, host)?),
        ("etcd".to_owned(), etcd::module(&lua, host, &frozen)?),
        ("json".to_owned(), json::module(&lua, &frozen)?),
        ("log".to_owned(), log::module(&lua)?),
        (
            "options".to_owned(),
            options::module(&lua, &host.world.options, &frozen)?,
        ),
    ]);
    if host.tests.borrow().is_some() {
        modules.insert(
            "test".to_owned(),
            test::module(&lua, host, &frozen, &containers)?,
        );
    }
    lua.globals()
        .set("print", modules["log"].get::<Function>("info")?)?;
    lua.globals()
        .set("require", require(&lua, host, modules)?)?;
    Ok(lua)
}

/// Runs the main script: a bundled one by its name, or a file.
pub(super) fn run_main(
    lua: &Lua,
    host: &Host,
    path: &Path,
) -> std::result::Result<MultiValue, Failure> {
    let main = main(lua, host, path)?;
    let place = || {
        Some(Place {
            script: path.display().to_string(),
            line: None,
            function: None,
        })
    };
    let result = host.call(&main, None, Phase::Loading);
    result.map_err(|failure| failure.or_at(place))
}

fn main(lua: &Lua, host: &Host, path: &Path) -> std::result::Result<Function, Failure> {
    let chunk = if let Some(script) = bundled::find(&path.to_string_lossy()) {
        compile(lua, host, script.text.as_bytes(), script.file)
    } else {
        let text = read(host, path).map_err(|error| {
            let is_bare = path.components().count() == 1 && path.extension().is_none();
            let hint = if is_bare {
                format!("; bundled policies are {}", bundled::names())
            } else {
                String::new()
            };
            Failure::new(format!("cannot read `{}`: {error}{hint}", path.display()))
        })?;
        compile(lua, host, &text, &path.to_string_lossy())
    };
    chunk.map_err(|error| Failure::from_error(&error))
}

/// Reads a script. A command that does one thing also reads it from a pipe.
fn read(host: &Host, path: &Path) -> std::io::Result<Vec<u8>> {
    match host.world.source {
        Source::Live(_) => file::read(path),
        Source::Once(_) => std::fs::read(path),
    }
}

/// A function of a script's text; its lines are `name:LINE` in messages.
fn compile(lua: &Lua, host: &Host, text: &[u8], name: &str) -> Result<Function> {
    host.digest.borrow_mut().update(text);
    lua.load(text)
        .set_name(format!("@{name}"))
        .set_mode(ChunkMode::Text)
        .into_function()
}

fn prelude(lua: &Lua, host: &Rc<Host>) -> Result<Table> {
    let functions = lua.create_table()?;
    let clock = Rc::clone(host);
    functions.set(
        "check_time",
        lua.create_function(move |_, ()| clock.check_time())?,
    )?;
    let known = Rc::clone(host);
    let blame = move |lua: &Lua, error: Value| {
        Ok(failure::blame(
            lua,
            &error,
            known.decisions.borrow().as_ref(),
        ))
    };
    functions.set("blame", lua.create_function(blame)?)?;
    // Named with `=`, so that no message ever points at a line of it.
    lua.load(include_str!("prelude.lua"))
        .set_name("=prelude")
        .call(functions)
}

fn restrict(lua: &Lua) -> Result<()> {
    let globals = lua.globals();
    for name in FORBIDDEN {
        globals.raw_remove(name)?;
    }
    globals.get::<Table>("string")?.raw_remove("dump")?;
    let os = globals.get::<Table>("os")?;
    let safe = lua.create_table()?;
    for name in OS {
        safe.set(name, os.get::<Function>(name)?)?;
    }
    globals.set("os", safe)
}

/// `require`: the bindings, the bundled scripts, and the site's own files beside its script.
fn require(lua: &Lua, host: &Rc<Host>, modules: HashMap<String, Table>) -> Result<Function> {
    let modules = modules
        .into_iter()
        .map(|(name, table)| (name, MultiValue::from_iter([Value::Table(table)])));
    let loaded: RefCell<HashMap<String, MultiValue>> = RefCell::new(modules.collect());
    let loading: RefCell<Vec<String>> = RefCell::new(Vec::new());
    let host = Rc::clone(host);
    lua.create_function(move |lua, name: String| {
        if let Some(module) = loaded.borrow().get(&name) {
            return Ok(module.clone());
        }
        if loading.borrow().contains(&name) {
            let circle = loading.borrow().join("` requires `");
            return Err(Failure::raise(format!(
                "`{circle}` requires `{name}`: they go in a circle"
            )));
        }
        let chunk = find(lua, &host, &name)?;
        loading.borrow_mut().push(name.clone());
        // Protected, so that a failure names the line in the module and not the one that requires it.
        let values = host.protected()?.call::<MultiValue>(chunk);
        loading.borrow_mut().pop();
        let values = outcome(values).map_err(mlua::Error::external);
        // Like Lua's own, it returns true for a module that returns nothing.
        let value = values?
            .pop_front()
            .filter(|value| !value.is_nil())
            .unwrap_or(Value::Boolean(true));
        if name == bundled::DEFAULT
            && let Value::Table(register) = &value
        {
            let decisions = register
                .metatable()
                .and_then(|metatable| metatable.get("decisions").ok());
            host.decisions.replace(decisions);
        }
        let module = MultiValue::from_iter([value]);
        loaded.borrow_mut().insert(name, module.clone());
        Ok(module)
    })
}

fn find(lua: &Lua, host: &Host, name: &str) -> Result<Function> {
    if let Some(script) = bundled::find(name) {
        return compile(lua, host, script.text.as_bytes(), script.file);
    }
    if name == "test" {
        return Err(Failure::raise(
            "the module `test` is there in `docker-register test` alone",
        ));
    }
    if host.phase.get() != Phase::Loading {
        return Err(Failure::raise(format!(
            "`require \"{name}\"`: modules are required while the script loads"
        )));
    }
    let legal = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
    };
    if !name.split('.').all(legal) {
        return Err(Failure::raise(format!(
            "`require \"{name}\"`: a module's name has letters, digits, `_` and `-`, and dots for directories"
        )));
    }
    let there_are = format!(
        "there are docker, etcd, json, log, options and the bundled policies {}",
        bundled::names()
    );
    let directory = match host.world.path.as_deref() {
        Some(script) if bundled::find(&script.to_string_lossy()).is_none() => {
            script.parent().unwrap_or(Path::new(""))
        }
        _ => {
            return Err(Failure::raise(format!(
                "there is no module `{name}`; {there_are}"
            )));
        }
    };
    let file: PathBuf = name.split('.').collect::<PathBuf>().with_extension("lua");
    let mut path = directory.join(&file);
    // Tests may be in a directory of their own below what they test, and have its name.
    let is_test = host.tests.borrow().is_some();
    if is_test && (!path.exists() || host.world.path.as_deref() == Some(path.as_path())) {
        path = directory.join("..").join(&file);
    }
    match read(host, &path) {
        Ok(text) => compile(lua, host, &text, &path.to_string_lossy()),
        Err(error) => Err(Failure::raise(format!(
            "there is no module `{name}`: cannot read `{}`: {error}; {there_are}",
            path.display()
        ))),
    }
}
