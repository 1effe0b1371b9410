//! The module `json`. The same content always becomes the same text, although the order of a Lua table changes between
//! runs.

use std::rc::Rc;

use mlua::{Lua, Result, Table, Value};
use serde_json::{Map, Number};

use crate::policy::sandbox::Context;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::frozen::Frozen;

/// The deepest nesting of tables. A table that contains itself is deeper than any.
const MAX_DEPTH: usize = 64;

pub fn module(lua: &Lua, context: &Rc<Context>) -> Result<Table> {
    let module = lua.create_table()?;
    let frozen = context.frozen().clone();
    module.set(
        "encode",
        lua.create_function(move |_, value: Value| Ok(to_json(&frozen, &value, 0)?.to_string()))?,
    )?;
    let frozen = context.frozen().clone();
    module.set(
        "decode",
        lua.create_function(move |lua, text| decode(lua, &frozen, text))?,
    )?;
    let frozen = context.frozen().clone();
    module.set(
        "array",
        lua.create_function(move |lua, list: Value| array(lua, &frozen, list))?,
    )?;
    module.set("null", Value::NULL)?;
    Ok(module)
}

/// Marks a table as a list, so that it is one in JSON even while it is empty.
fn array(lua: &Lua, frozen: &Frozen, list: Value) -> Result<Table> {
    let list = match list {
        Value::Nil => lua.create_table()?,
        Value::Table(list) => list,
        other => {
            return Err(Failure::raise(format!(
                "json.array takes a list, not a {}",
                other.type_name()
            )));
        }
    };
    if !frozen.is_array(&frozen.contents(&list)?) {
        if list.metatable().is_some() {
            return Err(Failure::raise(
                "json.array takes a table without a metatable",
            ));
        }
        frozen.mark_array(&list)?;
    }
    Ok(list)
}

/// A JSON value as a Lua value, with `null` for JSON's null.
pub fn to_lua(
    lua: &Lua,
    frozen: &Frozen,
    value: &serde_json::Value,
    null: &Value,
) -> Result<Value> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::Null => null.clone(),
        Json::Bool(bool) => Value::Boolean(*bool),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for item in items {
                table.raw_push(to_lua(lua, frozen, item, null)?)?;
            }
            frozen.mark_array(&table)?;
            Value::Table(table)
        }
        Json::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, field) in fields {
                table.raw_set(name.as_str(), to_lua(lua, frozen, field, null)?)?;
            }
            Value::Table(table)
        }
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a function for Lua takes its arguments by value"
)]
fn decode(lua: &Lua, frozen: &Frozen, text: mlua::LuaString) -> Result<Value> {
    let value: serde_json::Value = serde_json::from_slice(&text.as_bytes())
        .map_err(|error| Failure::raise(format!("json.decode: {error}")))?;
    to_lua(lua, frozen, &value, &Value::NULL)
}

/// A Lua value as a JSON value. `depth` is the number of tables around it.
pub fn to_json(frozen: &Frozen, value: &Value, depth: usize) -> Result<serde_json::Value> {
    use serde_json::Value as Json;
    let refuse = |what: &str| Err(Failure::raise(format!("json.encode: {what}")));
    if depth > MAX_DEPTH {
        return refuse("a table contains itself, or is nested deeper than 64 levels");
    }
    Ok(match value {
        Value::Nil => Json::Null,
        Value::LightUserData(pointer) if pointer.0.is_null() => Json::Null,
        Value::Boolean(bool) => Json::Bool(*bool),
        Value::Integer(integer) => Json::from(*integer),
        Value::Number(number) => match Number::from_f64(*number) {
            Some(number) => Json::Number(number),
            None => return refuse("JSON has no infinity and no NaN"),
        },
        Value::String(text) => match text.to_str() {
            Ok(text) => Json::String(text.to_owned()),
            Err(_) => return refuse("a string is not UTF-8"),
        },
        Value::Table(table) => {
            let table = frozen.contents(table)?;
            let length = table.raw_len();
            if length > 0 || frozen.is_array(&table) {
                let mut items = Vec::with_capacity(length);
                for item in table.sequence_values::<Value>() {
                    items.push(to_json(frozen, &item?, depth + 1)?);
                }
                if table.pairs::<Value, Value>().count() != items.len() {
                    return refuse("a table has both a list and named fields");
                }
                return Ok(Json::Array(items));
            }
            let mut fields = Map::new();
            for pair in table.pairs::<Value, Value>() {
                let (name, field) = pair?;
                let name = match &name {
                    Value::String(name) => name.to_string_lossy(),
                    other => {
                        return refuse(&format!(
                            "a field's name is a {}, not a string",
                            other.type_name()
                        ));
                    }
                };
                fields.insert(name, to_json(frozen, &field, depth + 1)?);
            }
            Json::Object(fields)
        }
        other => return refuse(&format!("JSON has no {}", other.type_name())),
    })
}
