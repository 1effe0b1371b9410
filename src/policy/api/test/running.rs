//! `test.run`: a policy's `run` over snapshots of a test's own.

use std::rc::Rc;
use std::sync::Arc;

use mlua::{Error, Function, Lua, Result, Table, Value};

use super::sample;
use crate::base::by_age::{ByAge, Ranked as _};
use crate::container::Container;
use crate::docker::Snapshot;
use crate::policy::Verdicts;
use crate::policy::api::check;
use crate::policy::api::container::Containers;
use crate::policy::api::state::ScriptState;
use crate::policy::sandbox::Context;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::frozen::Frozen;
use crate::policy::world::Source;
use crate::wanted::{Entry, Wanted};

/// The error for wrong arguments.
const RUN: &str = "test.run takes a policy, and a list of snapshots, each a list of containers or of the fields for one";

/// Adds `test.run`.
pub fn add_to(
    module: &Table,
    lua: &Lua,
    context: &Rc<Context>,
    state: &Rc<ScriptState>,
    containers: &Containers,
) -> Result<()> {
    let (context, state, containers) = (Rc::clone(context), Rc::clone(state), containers.clone());
    module.set(
        "run",
        lua.create_function(move |lua, (policy, snapshots): (Value, Value)| {
            let (Value::Table(policy), Value::Table(snapshots)) = (policy, snapshots) else {
                return Err(Failure::raise(RUN));
            };
            let Value::Function(run) = policy.get("run")? else {
                return Err(Failure::raise(RUN));
            };
            let snapshots = snapshots.sequence_values::<Value>();
            let snapshots = snapshots
                .map(|list| snapshot(context.frozen(), &containers, &list?))
                .collect::<Result<Vec<_>>>()?;
            let wanted = wanted(&context, &state, &run, &snapshots)?;
            let lists = wanted.iter().map(|wanted| entries(lua, wanted.as_deref()));
            lua.create_sequence_from(lists.collect::<Result<Vec<Table>>>()?)
        })?,
    )
}

fn snapshot(frozen: &Frozen, containers: &Containers, list: &Value) -> Result<Arc<Snapshot>> {
    let Value::Table(list) = list else {
        return Err(Failure::raise(RUN));
    };
    let mut all: ByAge<Container> = ByAge::default();
    for item in list.sequence_values::<Value>() {
        let Value::Table(item) = item? else {
            return Err(Failure::raise(RUN));
        };
        let container = match containers.container(&item)? {
            Some(container) => container,
            None => sample(frozen, item, "test.run")?,
        };
        if all.get(&container.rank()).is_some() {
            return Err(Failure::raise(
                "test.run: two containers of a snapshot have one id; give each a name or an id of its own",
            ));
        }
        all.insert(container);
    }
    Ok(Arc::new(Snapshot::of(all)))
}

/// The wanted state after each snapshot; none before the first call of `etcd.sync`.
fn wanted(
    context: &Context,
    state: &ScriptState,
    run: &Function,
    snapshots: &[Arc<Snapshot>],
) -> Result<Vec<Option<Arc<Wanted>>>> {
    let saved = Source::Saved(snapshots.iter().cloned().collect());
    let source = state.source.replace(saved);
    state.world.verdicts.replace(Verdicts::default());
    state.recorded.replace(Some(Vec::new()));
    let result = context.run_through(run);
    state.source.replace(source);
    let recorded = state.recorded.take().unwrap_or_default();
    // A failure of the policy's for a container, which only this one has seen.
    let verdicts = state.world.verdicts.take();
    let failures = verdicts.all().into_iter().map(|verdict| &verdict.failure);
    let failure = failures.chain([&verdicts.host.failure]).flatten().next();
    if let Some(failure) = result.err().as_ref().or(failure) {
        return Err(Error::external(failure.clone()));
    }
    let mut last = None;
    let after = snapshots.iter().map(|snapshot| {
        let mut of_this = recorded.iter().filter(|(of, _)| Arc::ptr_eq(of, snapshot));
        if let Some((_, wanted)) = of_this.next_back() {
            last = Some(Arc::clone(wanted));
        }
        last.clone()
    });
    Ok(after.collect())
}

/// The entries of a wanted state, each once, in order of their keys.
fn entries(lua: &Lua, wanted: Option<&Wanted>) -> Result<Table> {
    let claims = wanted.into_iter().flat_map(|wanted| wanted.claims.iter());
    let mut entries: Vec<&Entry> = claims.flat_map(|claim| claim.entries.iter()).collect();
    entries.sort_by(|a, b| (&a.key, &a.value).cmp(&(&b.key, &b.value)));
    entries.dedup();
    let tables = entries.into_iter().map(|entry| {
        let table = lua.create_table()?;
        table.raw_set("key", &*entry.key)?;
        table.raw_set("value", &*entry.value)?;
        table.raw_set("ttl", entry.ttl)?;
        // As in the entries that policies make.
        table.raw_set("shared", entry.shared.then_some(true))?;
        let check = entry.check.as_deref().map(|it| check::write(lua, it));
        table.raw_set("check", check.transpose()?)?;
        Ok(table)
    });
    lua.create_sequence_from(tables.collect::<Result<Vec<Table>>>()?)
}
