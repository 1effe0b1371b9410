//! The module `log`: lines in the program's own log. It also makes `print` write there.

use mlua::{Lua, MultiValue, Result, Table};

pub fn module(lua: &Lua) -> Result<Table> {
    let module = lua.create_table()?;
    module.set(
        "debug",
        lua.create_function(|_, values| line(&values).map(|line| tracing::debug!("{line}")))?,
    )?;
    let info =
        lua.create_function(|_, values| line(&values).map(|line| tracing::info!("{line}")))?;
    lua.globals().set("print", &info)?;
    module.set("info", info)?;
    module.set(
        "warn",
        lua.create_function(|_, values| line(&values).map(|line| tracing::warn!("{line}")))?,
    )?;
    module.set(
        "error",
        lua.create_function(|_, values| line(&values).map(|line| tracing::error!("{line}")))?,
    )?;
    Ok(module)
}

/// The values as `print` shows them, but with spaces between them.
fn line(values: &MultiValue) -> Result<String> {
    let values: Result<Vec<String>> = values.iter().map(mlua::Value::to_string).collect();
    Ok(values?.join(" "))
}
