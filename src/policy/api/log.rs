//! `log`: lines in the registrar's own log.

use mlua::{Lua, MultiValue, Result, Table};

/// The module's table.
pub fn module(lua: &Lua) -> Result<Table> {
    let module = lua.create_table()?;
    module.set(
        "debug",
        lua.create_function(|_, values| line(&values).map(|line| tracing::debug!("{line}")))?,
    )?;
    module.set(
        "info",
        lua.create_function(|_, values| line(&values).map(|line| tracing::info!("{line}")))?,
    )?;
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

/// The values as `print` shows them, but between spaces.
fn line(values: &MultiValue) -> Result<String> {
    let values: Result<Vec<String>> = values.iter().map(mlua::Value::to_string).collect();
    Ok(values?.join(" "))
}
