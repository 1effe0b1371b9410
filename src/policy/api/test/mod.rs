//! The module `test` and the run of a test file, for `docker-register test`: cases, comparisons and sample containers.

mod compare;
mod reading;
mod running;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, Lua, Result, Table, Value};

use super::container::Containers;
use super::json::to_json;
use super::state::ScriptState;
use crate::container::{Container, Sample, Saved, read_saved};
use crate::docker::Snapshot;
use crate::policy::bundled::ALL_SCRIPTS;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::frozen::Frozen;
use crate::policy::sandbox::{Context, Module, Phase, Sandbox, Setup};
use crate::policy::{Options, World, routing, script};
use compare::equal;

/// The error of `test.entries` for wrong arguments.
const ENTRIES: &str =
    "test.entries takes a policy, a container or the fields for one, and the wanted entries";

/// The results of a file's tests.
#[derive(Debug, Default)]
pub struct Tests {
    /// How many passed.
    pub passed: usize,
    /// The names of those that failed, and why.
    pub failed: Vec<(String, Failure)>,
}

/// Runs the tests of a file in a sandbox of their own. A file that cannot be run, or that has no test, counts as one
/// failure.
pub fn test_file(file: &Path, options: Options) -> Tests {
    let world = World::once(options, Snapshot::default()).script(Some(file.to_owned()));
    let tests = Rc::new(RefCell::new(Tests::default()));
    let result = run(world, &tests);
    let mut tests = tests.take();
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

fn run(world: World, tests: &Rc<RefCell<Tests>>) -> std::result::Result<(), Failure> {
    let setup = Setup {
        bundled: &ALL_SCRIPTS,
        elsewhere: &[],
        looks_above: true,
        ..script::setup(&world)
    };
    let state = Rc::new(ScriptState::new(world));
    let mut modules = super::modules(&state);
    // A test does not say which role its policy is for.
    modules.push(Module::new("proxy", routing::proxy_for_tests));
    let tests = Rc::clone(tests);
    modules.push(Module::new("test", move |lua, context| {
        module(lua, context, tests, &state)
    }));
    Sandbox::new(setup, modules)?.load().map(drop)
}

fn module(
    lua: &Lua,
    context: &Rc<Context>,
    tests: Rc<RefCell<Tests>>,
    state: &Rc<ScriptState>,
) -> Result<Table> {
    let module = lua.create_table()?;
    let for_case = Rc::clone(context);
    module.set(
        "case",
        lua.create_function(move |_, (name, body): (String, Function)| {
            let result = for_case.call(&body, (), Phase::Loading);
            let mut tests = tests.borrow_mut();
            match result {
                Ok(_) => tests.passed += 1,
                Err(failure) => tests.failed.push((name, failure)),
            }
            Ok(())
        })?,
    )?;
    let frozen = context.frozen().clone();
    module.set(
        "equal",
        lua.create_function(move |_, (got, want): (Value, Value)| equal(&frozen, &got, &want))?,
    )?;
    let containers = Containers::new(lua, context)?;
    let (frozen, makes) = (context.frozen().clone(), containers.clone());
    module.set(
        "container",
        lua.create_function(move |lua, fields: Option<Table>| {
            let fields = match fields {
                Some(fields) => fields,
                None => lua.create_table()?,
            };
            make(lua, &frozen, &makes, fields, "test.container")
        })?,
    )?;
    let (for_entries, frozen, makes) = (
        Rc::clone(context),
        context.frozen().clone(),
        containers.clone(),
    );
    module.set(
        "entries",
        lua.create_function(
            move |lua, (policy, container, wanted): (Value, Value, Value)| {
                let (Value::Table(policy), Value::Table(container)) = (policy, container) else {
                    return Err(Failure::raise(ENTRIES));
                };
                let Value::Function(entries) = policy.get("entries")? else {
                    return Err(Failure::raise(ENTRIES));
                };
                // A container has a metatable, and fields for one have none.
                let container = match container.metatable() {
                    Some(_) => container,
                    None => make(lua, &frozen, &makes, container, "test.entries")?,
                };
                // So a failure names the line in the policy and not the test's.
                let results = for_entries.call_within((entries, container));
                let results = results.map_err(mlua::Error::external)?;
                let got = results.front().unwrap_or(&Value::Nil);
                equal(&frozen, got, &wanted)
            },
        )?,
    )?;
    running::add_to(&module, lua, context, state, &containers)?;
    let for_containers = Rc::clone(context);
    module.set(
        "containers",
        lua.create_function(move |lua, file: String| {
            let directory = for_containers.script().parent();
            let path = directory.unwrap_or(Path::new("")).join(&file);
            let refuse = |why: String| {
                let path = path.display();
                Failure::raise(format!("test.containers: cannot read `{path}`: {why}"))
            };
            let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
            let saved = read_saved(&text).and_then(Saved::whole);
            let saved = saved.map_err(|error| refuse(format!("{error:#}")))?;
            let tables = saved
                .iter()
                .map(|container| containers.table(lua, container));
            lua.create_sequence_from(tables.collect::<Result<Vec<Table>>>()?)
        })?,
    )?;
    reading::add_to(&module, lua, context)?;
    Ok(module)
}

/// The table of a container with these fields. An error names the `caller`.
fn make(
    lua: &Lua,
    frozen: &Frozen,
    makes: &Containers,
    fields: Table,
    caller: &str,
) -> Result<Table> {
    makes.table(lua, &sample(frozen, fields, caller)?)
}

/// A container with these fields. An error names the `caller`.
fn sample(frozen: &Frozen, fields: Table, caller: &str) -> Result<Arc<Container>> {
    let json = to_json(frozen, &Value::Table(fields), 0)?;
    let container = Sample::read(json).and_then(Sample::container);
    let container = container.map_err(|error| Failure::raise(format!("{caller}: {error:#}")))?;
    Ok(Arc::new(container))
}
