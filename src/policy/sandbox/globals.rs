//! The globals of Lua that a script keeps.

use mlua::{Function, Lua, Result, StdLib, Table};

/// Globals that read files, run bytecode or stop the garbage collector.
const FORBIDDEN: [&str; 4] = ["dofile", "loadfile", "collectgarbage", "warn"];
/// The functions of `os` that a script keeps.
const OS: [&str; 5] = ["clock", "date", "difftime", "getenv", "time"];

/// The libraries that a script has. The others read files, load native code or look into the host.
pub fn libraries() -> StdLib {
    StdLib::COROUTINE | StdLib::TABLE | StdLib::STRING | StdLib::UTF8 | StdLib::MATH | StdLib::OS
}

/// Removes the globals that lead out of the sandbox.
pub fn restrict(lua: &Lua) -> Result<()> {
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
