//! `test`: cases, comparisons and sample containers, for `docker-register test`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, Lua, Result, Table, Value};
use tokio::sync::watch;

use super::container::Containers;
use super::json::to_json;
use crate::container::{Sample, read_saved};
use crate::docker::Snapshot;
use crate::ops::condition::Condition;
use crate::ops::counter::Counter;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::frozen::Frozen;
use crate::policy::{Host, Options, Phase, Report, Source, Verdicts, World, sandbox};
use crate::store::etcd::Connection;

/// How many differences are shown.
const MAX_SHOWN: usize = 10;
/// How deep tables are compared; one that contains itself is deeper than any.
const MAX_DEPTH: usize = 64;
/// How much of a value is shown.
const MAX_TEXT: usize = 300;

/// What the tests of a file came to.
#[derive(Debug, Default)]
pub struct Tests {
    /// How many passed.
    pub passed: usize,
    /// The names of those that failed, and why.
    pub failed: Vec<(String, Failure)>,
}

/// Runs the tests of a file, in a state of their own. A file that cannot be run, or that has no test, is one failure.
pub fn test_file(file: &Path, options: Options) -> Tests {
    let (wanted, _) = watch::channel(None);
    let world = World {
        condition: Condition::default(),
        errors: Counter::default(),
        path: Some(file.to_owned()),
        // Nothing waits while a script loads, so nobody asks etcd or Docker for anything.
        reader: Rc::new(Connection::nowhere().into()),
        options,
        source: Source::Once(Arc::new(Snapshot::default())),
        wanted,
        report: Report::Nothing,
        verdicts: Rc::new(Verdicts::default().into()),
    };
    let host = Host::new(world, Some(Tests::default()));
    let result = run(&host, file);
    let mut tests = host.tests.take().unwrap_or_default();
    let name = file.display();
    match result {
        Err(failure) => tests.failed.push((format!("{name} as a whole"), failure)),
        Ok(()) if tests.passed == 0 && tests.failed.is_empty() => tests.failed.push((
            format!("{name} as a whole"),
            Failure::new("it has no test; write `test.case(name, function() … end)`"),
        )),
        Ok(()) => {}
    }
    tests
}

fn run(host: &Rc<Host>, file: &Path) -> std::result::Result<(), Failure> {
    let lua = sandbox::state(host).map_err(|error| Failure::from_error(&error))?;
    sandbox::run_main(&lua, host, file).map(drop)
}

/// The module's table.
pub fn module(
    lua: &Lua,
    host: &Rc<Host>,
    frozen: &Frozen,
    containers: &Containers,
) -> Result<Table> {
    let module = lua.create_table()?;
    let of_case = Rc::clone(host);
    module.set(
        "case",
        lua.create_function(move |_, (name, body): (String, Function)| {
            let result = of_case.call(&body, None, Phase::Loading);
            if let Some(tests) = &mut *of_case.tests.borrow_mut() {
                match result {
                    Ok(_) => tests.passed += 1,
                    Err(failure) => tests.failed.push((name, failure)),
                }
            }
            Ok(())
        })?,
    )?;
    let of_equal = frozen.clone();
    module.set(
        "equal",
        lua.create_function(move |_, (got, want): (Value, Value)| equal(&of_equal, &got, &want))?,
    )?;
    let (of_container, makes) = (frozen.clone(), containers.clone());
    module.set(
        "container",
        lua.create_function(move |lua, fields: Option<Table>| {
            let fields = match fields {
                Some(fields) => fields,
                None => lua.create_table()?,
            };
            let json = to_json(&of_container, &Value::Table(fields), 0)?;
            let container = Sample::read(json).and_then(Sample::container);
            let container =
                container.map_err(|error| Failure::raise(format!("test.container: {error:#}")))?;
            makes.table(lua, &Arc::new(container))
        })?,
    )?;
    let (of_containers, makes) = (Rc::clone(host), containers.clone());
    module.set(
        "containers",
        lua.create_function(move |lua, file: String| {
            let directory = of_containers.world.path.as_deref().and_then(Path::parent);
            let path = directory.unwrap_or(Path::new("")).join(&file);
            let refuse = |why: String| {
                let path = path.display();
                Failure::raise(format!("test.containers: cannot read `{path}`: {why}"))
            };
            let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
            let saved = read_saved(&text).map_err(|error| refuse(format!("{error:#}")))?;
            let tables = saved.iter().map(|container| makes.table(lua, container));
            lua.create_sequence_from(tables.collect::<Result<Vec<Table>>>()?)
        })?,
    )?;
    Ok(module)
}

fn equal(frozen: &Frozen, got: &Value, want: &Value) -> Result<()> {
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

/// A field of a table, in the order in which differences are shown.
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

/// A value as one would write it in Lua, on one line, cut where it is too long to read.
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
        // A table that contains itself would never end.
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
