//! Reads the results of a policy function: entries, and what is left out. They are converted by hand, so that a message
//! names the entry and the field.

use std::collections::HashMap;
use std::sync::Arc;

use mlua::{Table, Value};

use super::check;
use crate::base::key::Key;
use crate::base::text::{printable, quote};
use crate::policy::sandbox::frozen::Frozen;
use crate::wanted::{Entry, TTL};

/// Reads a list of entries. An entry without a TTL gets `default_ttl`.
pub fn read(frozen: &Frozen, value: &Value, default_ttl: u32) -> Result<Vec<Entry>, String> {
    const WHAT: &str = "return a list of entries, `{}` for none";
    let Value::Table(list) = value else {
        return Err(format!("it returned {}; {WHAT}", a(value)));
    };
    let list = frozen.contents(list).map_err(|error| error.to_string())?;
    let length = list.raw_len();
    let has = |field: &str| {
        list.raw_get::<Value>(field)
            .is_ok_and(|value| !value.is_nil())
    };
    let is_entry = has("key") || has("value");
    if is_entry {
        return Err(format!(
            "it returned one entry and not a list; {WHAT}: `{{ entry }}`"
        ));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(length);
    // The place of each key, in `entries` and in the list.
    let mut places: HashMap<Key, (usize, usize)> = HashMap::with_capacity(length);
    for pair in list.pairs::<Value, Value>() {
        let (key, _) = pair.map_err(|error| error.to_string())?;
        match &key {
            Value::Integer(index)
                if usize::try_from(*index).is_ok_and(|index| (1..=length).contains(&index)) => {}
            Value::Integer(_) => return Err(format!("its list of entries has holes; {WHAT}")),
            other => {
                return Err(format!(
                    "it returned a table with the field {}; {WHAT}",
                    shown(other)
                ));
            }
        }
    }
    for index in 1..=length {
        let value = list
            .raw_get::<Value>(index)
            .map_err(|error| error.to_string())?;
        let mut entry =
            read_entry(frozen, &value, default_ttl).map_err(|why| format!("entry {index}{why}"))?;
        if let Some(&(before, other)) = places.get(&entry.key) {
            if entries[before] == entry {
                continue;
            }
            return Err(format!(
                "entries {other} and {index} have one key, {}, and differ",
                quote(&entry.key)
            ));
        }
        places.insert(Arc::clone(&entry.key), (entries.len(), index));
        share_check(entries.last(), &mut entry);
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads the second result, which says what is left out and why: a text or a list of texts.
pub fn read_left_out(frozen: &Frozen, value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![printable(&text.to_string_lossy())],
        Some(Value::Table(list)) => match frozen.contents(list) {
            Ok(list) => list
                .sequence_values::<String>()
                .filter_map(|text| Some(printable(&text.ok()?)))
                .collect(),
            Err(_) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn read_entry(frozen: &Frozen, value: &Value, default_ttl: u32) -> Result<Entry, String> {
    let Value::Table(table) = value else {
        return Err(format!(
            " is {}; an entry is a table with `key` and `value`",
            a(value)
        ));
    };
    let table: Table = frozen
        .contents(table)
        .map_err(|error| format!(": {error}"))?;
    let (mut key, mut text, mut ttl, mut shared) = (None, None, default_ttl, false);
    let mut check = None;
    for pair in table.pairs::<Value, Value>() {
        let (name, field) = pair.map_err(|error| format!(": {error}"))?;
        let name = match &name {
            Value::String(name) => name.to_string_lossy(),
            other => shown(other),
        };
        match name.as_str() {
            "key" => key = Some(read_text(&field).map_err(|why| format!(": `key` {why}"))?),
            "value" => text = Some(read_text(&field).map_err(|why| format!(": `value` {why}"))?),
            "ttl" => ttl = read_ttl(&field).map_err(|why| format!(": `ttl` {why}"))?,
            "shared" => match field {
                Value::Boolean(bool) => shared = bool,
                other => return Err(format!(": `shared` is {}; it is true or false", a(&other))),
            },
            "check" => check = Some(field),
            _ => {
                return Err(format!(
                    " has the unknown field `{name}`; an entry has `key`, `value`, `ttl`, `shared` and `check`"
                ));
            }
        }
    }
    let key = key.ok_or(" has no `key`")?;
    let text = text.ok_or(" has no `value`")?;
    // It is read last, because it needs the value.
    let check = check.map(|check| check::read(frozen, &check, &text));
    let check = check.transpose().map_err(|why| format!(": {why}"))?;
    let entry = Entry {
        key: key.into(),
        value: text.into(),
        ttl,
        shared,
        check: check.map(Arc::new),
    };
    entry.check().map_err(|why| format!(": {why}"))?;
    Ok(entry)
}

/// Lets an entry use the check of the one before it if both are equal, as those of a port are.
fn share_check(before: Option<&Entry>, entry: &mut Entry) {
    let before = before.and_then(|before| before.check.as_ref());
    if let Some(before) = before
        && entry.check.as_ref() == Some(before)
    {
        entry.check = Some(Arc::clone(before));
    }
}

pub(super) fn read_text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => match text.to_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(format!("is not UTF-8: {}", quote(&text.to_string_lossy()))),
        },
        Value::Integer(integer) => Ok(integer.to_string()),
        // In Lua, 16010 / 2 is 8005.0, whose decimal digits are 8005.
        Value::Number(number) if number.is_finite() => Ok(number.to_string()),
        other => Err(format!("is {}; it is a string", a(other))),
    }
}

fn read_ttl(value: &Value) -> Result<u32, String> {
    read_whole(value)
        .filter(|seconds| TTL.contains(seconds))
        .ok_or_else(|| {
            let range = format!(
                "it is a whole number of seconds from {} to {}",
                TTL.start(),
                TTL.end()
            );
            match value {
                Value::Integer(_) | Value::Number(_) => format!("is {}; {range}", shown(value)),
                other => format!("is {}; {range}", a(other)),
            }
        })
}

/// A whole number that is not negative; in Lua, 60 / 2 is 30.0.
pub(super) fn read_whole(value: &Value) -> Option<u32> {
    match value {
        Value::Integer(integer) => u32::try_from(*integer).ok(),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it has no fraction and saturates"
        )]
        Value::Number(number) if number.fract() == 0.0 => u32::try_from(*number as i64).ok(),
        _ => None,
    }
}

/// A value's type with its article.
pub(super) fn a(value: &Value) -> String {
    match value.type_name() {
        "nil" => "nil".to_owned(),
        "integer" | "number" => "a number".to_owned(),
        name => format!("a {name}"),
    }
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quote(&text.to_string_lossy()),
        Value::Integer(integer) => integer.to_string(),
        Value::Number(number) => number.to_string(),
        other => a(other),
    }
}
