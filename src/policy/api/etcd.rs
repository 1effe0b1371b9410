//! The module `store`, also called `etcd`: keys, the wanted state, and reading. It decides which containers a policy
//! function is called for, and hands the result over; `register/plan` makes the store so.

use std::cmp::Reverse;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, Lua, MultiValue, Result, Table, Value, Variadic};
use tracing::{debug, error, info};

use super::entries::{read, read_left_out};
use super::state::ScriptState;
use crate::base::by_age::ByAge;
use crate::base::key::{check_segment, is_segment, join};
use crate::base::text::quote;
use crate::container::Container;
use crate::ops::outage::Outage;
use crate::policy::Report;
use crate::policy::host::HostVerdict;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::frozen::Frozen;
use crate::policy::sandbox::{Context, Phase};
use crate::policy::verdicts::FunctionId;
use crate::policy::world::Source;
use crate::store::{AnyStore, Store as _, StoreError};
use crate::wanted::Entry;

/// How long `etcd.sync` calls policy functions before other tasks get a turn.
const LONG_TURN: Duration = Duration::from_millis(10);

pub fn module(lua: &Lua, context: &Rc<Context>, state: &Rc<ScriptState>) -> Result<Table> {
    let module = lua.create_table()?;
    module.set("key", lua.create_function(key)?)?;
    let frozen = context.frozen().clone();
    module.set(
        "segment",
        lua.create_function(move |_, arguments| segment(&frozen, arguments))?,
    )?;
    let shared = (Rc::clone(context), Rc::clone(state));
    module.set(
        "sync",
        lua.create_async_function(move |lua, arguments: MultiValue| {
            let (context, state) = shared.clone();
            sync(lua, context, state, arguments)
        })?,
    )?;
    let shared = (Rc::clone(context), Rc::clone(state));
    module.set(
        "get",
        lua.create_async_function(move |_, key: String| {
            let (context, state) = shared.clone();
            async move {
                context.may_wait("etcd.get")?;
                read_store(&state, async |store| store.get(&key).await).await
            }
        })?,
    )?;
    let shared = (Rc::clone(context), Rc::clone(state));
    module.set(
        "list",
        lua.create_async_function(move |lua, prefix: String| {
            let (context, state) = shared.clone();
            async move {
                context.may_wait("etcd.list")?;
                let listing = read_store(&state, async |store| store.scan(&prefix).await).await?;
                let pairs = listing
                    .keys
                    .iter()
                    .map(|found| (&*found.key, &*found.value));
                lua.create_table_from(pairs)
            }
        })?,
    )?;
    Ok(module)
}

/// Reads the store. A script that runs for ever waits while it cannot be reached.
async fn read_store<T>(
    state: &ScriptState,
    read: impl AsyncFn(&mut AnyStore) -> std::result::Result<T, StoreError>,
) -> Result<T> {
    let world = &state.world;
    let reader = world.reader.as_ref();
    let reader = reader.ok_or_else(|| Failure::raise("the store cannot be read here"))?;
    let ttl = Duration::from_secs(world.options.ttl.into());
    let store = reader.lock().await.name();
    let consequence = format!("the policy, which reads {store}, waits");
    let mut outage = Outage::new(store, consequence, ttl);
    loop {
        let result = read(&mut *reader.lock().await).await;
        match (result, &world.source) {
            (Ok(value), _) => {
                outage.over();
                return Ok(value);
            }
            (Err(StoreError::Failed(error)), Source::Live(_)) => {
                tokio::time::sleep(outage.failed(format!("{error:#}"))).await;
            }
            (Err(error), _) => return Err(Failure::raise(error.to_string())),
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a function for Lua takes its arguments by value"
)]
fn key(_: &Lua, segments: Variadic<Value>) -> Result<String> {
    let texts = segments.iter().enumerate().map(|(index, segment)| {
        text_of(segment).map_err(|why| {
            let number = index + 1;
            Failure::raise(format!("etcd.key: segment {number} {why}"))
        })
    });
    let texts = texts.collect::<Result<Vec<String>>>()?;
    join(&texts).map_err(|why| Failure::raise(why.to_string()))
}

/// Returns a text that can be one segment of a key. An error calls it `what`, and names the label or the environment
/// variable of the container that it comes from.
fn segment(
    frozen: &Frozen,
    (what, text, container): (String, Value, Option<Table>),
) -> Result<String> {
    let text = text_of(&text).map_err(|why| Failure::raise(format!("{what} {why}")))?;
    if is_segment(&text) {
        return Ok(text);
    }
    let origin = match container {
        Some(container) => origin(frozen, &container, &text)?,
        None => None,
    };
    check_segment(&what, &text, origin.as_deref())
        .map_err(|why| Failure::raise(why.to_string()))?;
    Ok(text)
}

/// The label or the environment variable that has this value, which is no segment, or else an illegal beginning of it.
fn origin(frozen: &Frozen, container: &Table, text: &str) -> Result<Option<String>> {
    // The longest value, then a label, then the first name.
    let mut best = None;
    for (kind, field) in [("environment variable", "env"), ("label", "labels")] {
        let Some(variables) = container.get::<Option<Table>>(field)? else {
            continue;
        };
        for pair in frozen.contents(&variables)?.pairs::<String, String>() {
            let (name, value) = pair?;
            if !value.is_empty() && text.starts_with(&value) && !is_segment(&value) {
                let rank = (value.len(), kind, Reverse(name));
                best = best.max(Some(rank));
            }
        }
    }
    Ok(best.map(|(_, kind, Reverse(name))| format!("{kind} {name}")))
}

fn text_of(segment: &Value) -> std::result::Result<String, String> {
    match segment {
        Value::String(text) => match text.to_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(format!("is not UTF-8: {}", quote(&text.to_string_lossy()))),
        },
        Value::Integer(number) => Ok(number.to_string()),
        other => Err(format!(
            "is a {}; it is a string or a whole number",
            other.type_name()
        )),
    }
}

/// Calls the policy functions, for each container that has changed and for the host, and hands over the wanted state.
async fn sync(
    lua: Lua,
    context: Rc<Context>,
    state: Rc<ScriptState>,
    arguments: MultiValue,
) -> Result<()> {
    context.may_wait("etcd.sync")?;
    let (Some(Value::Table(containers)), Some(Value::Function(function))) =
        (arguments.front(), arguments.get(1))
    else {
        return Err(Failure::raise(
            "etcd.sync takes the list of containers and the function that makes the entries of one",
        ));
    };
    let host_entries = match arguments.get(2) {
        None | Some(Value::Nil) => None,
        Some(Value::Function(function)) => Some(function),
        Some(other) => {
            return Err(Failure::raise(format!(
                "etcd.sync: the third argument is the function that makes the host's entries, not a {}",
                other.type_name()
            )));
        }
    };
    let Some(snapshot) = state.current.take() else {
        return Err(Failure::raise(
            "etcd.sync was called twice for one snapshot, and the second would undo the first; \
             join the two lists of entries in one function",
        ));
    };
    let list = state.tables()?.read(&lua, containers)?;
    let id = state.id_of("entries", function);
    let world = &state.world;
    let pass = world.verdicts.borrow_mut().begin(list.clone(), id);
    let mut turn = Instant::now();
    for container in &pass.changed {
        if world.verdicts.borrow().is_current(container, id) {
            continue;
        }
        let table = state.tables()?.of(container)?;
        call(&context, &state, function, id, container, &table);
        // The fields that were read take most of a container's memory, so they are freed. An error is ignored, because
        // the other containers still have their turn.
        let _ = state.tables()?.slim(&table);
        if turn.elapsed() > LONG_TURN {
            tokio::task::yield_now().await;
            turn = Instant::now();
        }
    }
    match host_entries {
        Some(function) => {
            state.tables()?.begin_reads();
            call_for_host(&context, &state, function, &list, containers);
            // As above.
            let _ = state.tables()?.slim_all();
        }
        None => world.verdicts.borrow_mut().host = HostVerdict::default(),
    }
    let unreadable = snapshot.unreadable.iter();
    let protected = unreadable.flat_map(|unreadable| unreadable.marks.iter().cloned());
    let mut wanted = world.verdicts.borrow_mut().end(pass, protected.collect());
    wanted.running = snapshot.containers.clone();
    wanted.outside.clone_from(&snapshot.outside);
    let wanted = Arc::new(wanted);
    if let Some(recorded) = &mut *state.recorded.borrow_mut() {
        recorded.push((snapshot, Arc::clone(&wanted)));
    }
    world.wanted.send_replace(Some(wanted));
    match world.verdicts.borrow().failure_of_all() {
        Some(failure) => world.condition.bad(&failure),
        None => world.condition.good(),
    }
    state.given.tell_unread(&context);
    Ok(())
}

/// Calls the policy function for one container, and records and reports the result.
fn call(
    context: &Context,
    state: &ScriptState,
    function: &Function,
    id: FunctionId,
    container: &Arc<Container>,
    table: &Table,
) {
    let result = entries_of(context, state, function, table);
    let mut verdicts = state.world.verdicts.borrow_mut();
    let name = || quote(&container.name);
    match result {
        Ok((entries, left_out)) => {
            let left_out = verdicts.succeeded(container, id, entries, left_out);
            report_left_out(state, name, left_out);
        }
        Err(failure) => {
            let consequence = verdicts.failed(container, id, &failure);
            report_failure(state, name, &failure, consequence);
        }
    }
}

/// The same for the host, if its containers or the function differ from those of the last call.
fn call_for_host(
    context: &Context,
    state: &ScriptState,
    function: &Function,
    list: &ByAge<Container>,
    tables: &Table,
) {
    let id = state.id_of("host_entries", function);
    if state.world.verdicts.borrow().host.is_current(list, id) {
        return;
    }
    let result = entries_of(context, state, function, tables);
    let host = &mut state.world.verdicts.borrow_mut().host;
    let name = || "the host".to_owned();
    match result {
        Ok((entries, left_out)) => {
            let left_out = host.succeeded(list, id, entries, left_out);
            report_left_out(state, name, left_out);
        }
        Err(failure) => {
            let consequence = host.failed(list, id, &failure);
            report_failure(state, name, &failure, consequence);
        }
    }
}

/// The entries that a policy function returns, and what is left out.
fn entries_of(
    context: &Context,
    state: &ScriptState,
    function: &Function,
    argument: &Table,
) -> std::result::Result<(Vec<Entry>, Vec<String>), Failure> {
    let at_function = |why: String| Failure::of(function, context.name_of(function), why);
    let result = context.call(function, argument, Phase::Policy);
    let values = result.map_err(|failure| failure.or_at(|| at_function(String::new()).place))?;
    let frozen = context.frozen();
    let entries = values.front().unwrap_or(&Value::Nil);
    let entries = read(frozen, entries, state.world.options.ttl).map_err(at_function)?;
    Ok((entries, read_left_out(frozen, values.get(1))))
}

fn report_left_out(state: &ScriptState, name: impl Fn() -> String, left_out: Option<&[String]>) {
    for why in left_out.unwrap_or_default() {
        match state.world.report {
            Report::All => info!("{}: left out: {why}", name()),
            Report::Failures => debug!("{}: left out: {why}", name()),
            Report::Nothing => {}
        }
    }
}

/// Counts a failed call, and logs one that is news: it has a `consequence`.
fn report_failure(
    state: &ScriptState,
    name: impl Fn() -> String,
    failure: &Failure,
    consequence: Option<String>,
) {
    state.world.errors.add_one();
    if let Some(consequence) = consequence
        && state.world.report != Report::Nothing
    {
        error!("{}: {failure}\n  {consequence}", name());
    }
}
