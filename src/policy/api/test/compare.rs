//! `test.equal`: compares two values table by table, and shows where they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use mlua::{Result, Table, Value};

use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::frozen::Frozen;

/// The most differences that are shown.
const MAX_SHOWN: usize = 10;
/// The deepest nesting that is compared. A table that contains itself is deeper than any.
const MAX_DEPTH: usize = 64;
/// The most characters of a value that are shown.
const MAX_TEXT: usize = 300;

/// Raises an error that says where two values differ, if they do.
pub fn equal(frozen: &Frozen, got: &Value, want: &Value) -> Result<()> {
    let mut differences = Vec::new();
    compare(frozen, got, want, "", 0, &mut differences)?;
    let more = differences.len().saturating_sub(MAX_SHOWN);
    differences.truncate(MAX_SHOWN);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    match &*differences {
        [] => Ok(()),
        [one] => Err(Failure::raise(one.clone())),
        several => Err(Failure::raise(format!(
            "they differ:\n  {}",
            several.join("\n  ")
        ))),
    }
}

/// The name of a field, in the order in which differences are shown.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Index(i64),
    Name(String),
    Other(String),
}

impl Field {
    fn of(key: &Value) -> Self {
        match key {
            Value::Integer(index) => Self::Index(*index),
            Value::String(name) => Self::Name(name.to_string_lossy()),
            other => Self::Other(other.to_string().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Name(name) if is_identifier(name) => write!(f, ".{name}"),
            Self::Name(name) => write!(f, "[{name:?}]"),
            Self::Other(other) => write!(f, "[{other}]"),
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty()
}

/// The fields of a table, read-only or not.
fn fields(frozen: &Frozen, table: &Table) -> Result<BTreeMap<Field, Value>> {
    let contents = frozen.contents(table)?;
    let pair = |pair: Result<(Value, Value)>| pair.map(|(key, value)| (Field::of(&key), value));
    contents.pairs::<Value, Value>().map(pair).collect()
}

fn compare(
    frozen: &Frozen,
    got: &Value,
    want: &Value,
    path: &str,
    depth: usize,
    differences: &mut Vec<String>,
) -> Result<()> {
    let (Value::Table(got_table), Value::Table(want_table), true) = (got, want, depth < MAX_DEPTH)
    else {
        if got != want {
            let colon = if path.is_empty() { "" } else { ": " };
            let (got, want) = (shown(frozen, got)?, shown(frozen, want)?);
            differences.push(format!("{path}{colon}got {got}, want {want}"));
        }
        return Ok(());
    };
    let (got, want) = (fields(frozen, got_table)?, fields(frozen, want_table)?);
    let all: BTreeSet<&Field> = got.keys().chain(want.keys()).collect();
    for field in all {
        let of = |fields: &BTreeMap<Field, Value>| fields.get(field).cloned().unwrap_or(Value::Nil);
        let path = format!("{path}{field}");
        compare(frozen, &of(&got), &of(&want), &path, depth + 1, differences)?;
    }
    Ok(())
}

/// A value as it is written in Lua, on one line, cut where it is too long to read.
fn shown(frozen: &Frozen, value: &Value) -> Result<String> {
    let mut text = String::new();
    write_value(frozen, value, &mut text)?;
    if let Some((cut, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(cut);
        text.push('…');
    }
    Ok(text)
}

fn write_value(frozen: &Frozen, value: &Value, text: &mut String) -> Result<()> {
    match value {
        // A table that contains itself has no end.
        _ if text.len() > 4 * MAX_TEXT => {}
        // Writing to a string cannot fail.
        Value::String(string) => drop(write!(text, "{:?}", string.to_string_lossy())),
        Value::Table(table) => {
            let fields = fields(frozen, table)?;
            if fields.is_empty() {
                *text += "{}";
                return Ok(());
            }
            let mut before = "{ ";
            for (field, value) in &fields {
                *text += before;
                before = ", ";
                match field {
                    Field::Index(_) => {}
                    Field::Name(name) if is_identifier(name) => drop(write!(text, "{name} = ")),
                    other => drop(write!(text, "{other} = ")),
                }
                write_value(frozen, value, text)?;
            }
            *text += " }";
        }
        Value::Nil | Value::Boolean(_) | Value::Integer(_) | Value::Number(_) => {
            *text += &value.to_string()?;
        }
        Value::LightUserData(pointer) if pointer.0.is_null() => *text += "json.null",
        other => drop(write!(text, "a {}", other.type_name())),
    }
    Ok(())
}
