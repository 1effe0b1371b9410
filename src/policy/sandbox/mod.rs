//! A script of any role in a Lua state without a way out: no files but scripts, no processes, no bytecode, limited
//! memory and time. It knows no role. A role hands in its modules and its bundled scripts, and calls what its script
//! returns.

mod context;
mod decisions;
pub mod failure;
pub mod frozen;
mod globals;
mod hook;
mod names;
mod require;
mod scripts;
#[cfg(test)]
mod tests;
mod time_limit;
pub mod unlimited;

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use mlua::{Function, Lua, LuaOptions, MultiValue, Result, Table};

pub use context::{Context, Phase};
use failure::{Failure, Place};
pub use scripts::Bundled;
use time_limit::TimeLimit;

use crate::ops::loads::Version;

/// The most memory that a script may use, in bytes.
const MEMORY_LIMIT: usize = 64 * 1024 * 1024;

/// The module that every sandbox has.
const DECISIONS: &str = "decisions";

/// A script and the state that it is in.
pub struct Sandbox {
    lua: Lua,
    context: Rc<Context>,
}

/// The settings of a sandbox.
pub struct Setup {
    /// The main script: a file, or the name of a bundled one.
    pub script: PathBuf,
    pub bundled: &'static [Bundled],
    /// The bundled script that a site's policy begins with.
    pub policy: &'static str,
    /// Modules that only other scripts have, each with the error for requiring it here.
    pub elsewhere: &'static [(&'static str, &'static str)],
    /// Whether modules are also looked for in the directory above the script's.
    pub looks_above: bool,
    /// Whether the script soon ends. It may be read from a pipe, and its garbage is not collected.
    pub runs_once: bool,
}

impl Setup {
    /// Whether the main script is bundled. Then all others are too.
    fn is_bundled(&self) -> bool {
        let name = self.script.to_string_lossy();
        self.bundled.iter().any(|script| script.name == name)
    }
}

/// A module that a script can require.
pub struct Module {
    name: &'static str,
    /// Another name of the same table.
    also: Option<&'static str>,
    make: Box<Make>,
}

type Make = dyn FnOnce(&Lua, &Rc<Context>) -> Result<Table>;

impl Module {
    /// A module whose table `make` makes, once for each sandbox.
    pub fn new(
        name: &'static str,
        make: impl FnOnce(&Lua, &Rc<Context>) -> Result<Table> + 'static,
    ) -> Self {
        Self {
            name,
            also: None,
            make: Box::new(make),
        }
    }

    /// The same module, which has another name besides.
    pub fn also(self, name: &'static str) -> Self {
        Self {
            also: Some(name),
            ..self
        }
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        [self.name].into_iter().chain(self.also)
    }
}

impl Sandbox {
    /// A sandbox whose script has not been loaded yet.
    pub fn new(setup: Setup, modules: Vec<Module>) -> std::result::Result<Self, Failure> {
        let sandbox = Self::with_modules(setup, modules);
        sandbox.map_err(|error| Failure::from_error(&error))
    }

    fn with_modules(setup: Setup, modules: Vec<Module>) -> Result<Self> {
        let lua = Lua::new_with(globals::libraries(), LuaOptions::default())?;
        lua.set_memory_limit(MEMORY_LIMIT)?;
        if setup.runs_once {
            // At the memory limit, Lua collects its garbage all the same.
            lua.gc_stop();
        }
        let time = Rc::new(TimeLimit::default());
        let own = [DECISIONS].into_iter();
        let names = own.chain(modules.iter().flat_map(Module::names)).collect();
        let context = Rc::new(Context::new(&lua, setup, names, time)?);
        globals::restrict(&lua)?;
        let mut tables = HashMap::with_capacity(modules.len() + 1);
        tables.insert(DECISIONS.to_owned(), decisions::module(&lua, &context)?);
        for module in modules {
            let names = module.names();
            let table = (module.make)(&lua, &context)?;
            tables.extend(names.map(|name| (name.to_owned(), table.clone())));
        }
        let require = require::require(&lua, &context, tables)?;
        lua.globals().set("require", require)?;
        Ok(Self { lua, context })
    }

    /// Runs the main script's text, which has the time of one call and may not wait. Returns what the script returns.
    pub fn load(&self) -> std::result::Result<MultiValue, Failure> {
        let main = scripts::main(&self.lua, &self.context)?;
        let place = || {
            Some(Place {
                script: self.context.script().display().to_string(),
                line: None,
                function: None,
            })
        };
        let result = self.context.call(&main, (), Phase::Loading);
        result.map_err(|failure| failure.or_at(place))
    }

    /// Runs a function of the script that may wait.
    pub async fn run(&self, function: &Function) -> std::result::Result<(), Failure> {
        self.context.run(function).await
    }

    /// Which script it is: its name, and a digest of the text of all scripts that were loaded.
    pub fn version(&self) -> Version {
        self.context.version()
    }
}
