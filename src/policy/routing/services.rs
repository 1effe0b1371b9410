//! The module `store` of a reading policy, also called `etcd`: the registered services, as lists of their tables.

use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, Lua, MultiValue, Result, Table, Value};
use tokio::sync::Mutex;

use super::lists::Lists;
use super::reading::read_located;
use super::state::{Current, RoutingState};
use super::world::KeySource;
use crate::base::text::quote;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::{Context, Phase};
use crate::routes::{Keys, Located, Places, Registered};
use crate::store::Found;

/// How long `etcd.services` calls the policy before other tasks get a turn.
const LONG_TURN: Duration = Duration::from_millis(10);

pub fn module(lua: &Lua, context: &Rc<Context>, state: &Rc<RoutingState>) -> Result<Table> {
    let module = lua.create_table()?;
    let shared = (Rc::clone(context), Rc::clone(state));
    module.set(
        "services",
        lua.create_function(move |lua, locate: Value| {
            let Value::Function(locate) = locate else {
                return Err(Failure::raise(
                    "etcd.services takes the function that says where a key belongs",
                ));
            };
            services(lua, &shared.0, &shared.1, locate)
        })?,
    )?;
    Ok(module)
}

/// An iterator over the services of each moment, for a generic `for`. It ends when the source does.
fn services(
    lua: &Lua,
    context: &Rc<Context>,
    state: &Rc<RoutingState>,
    locate: Function,
) -> Result<Function> {
    context.may_wait("etcd.services")?;
    let mut source = state.world.source.clone();
    if let KeySource::Live(keys) = &mut source {
        // Keys that are there already are new to this loop.
        keys.mark_changed();
    }
    let moments = Moments {
        source: Some(source),
        places: Places::default(),
        lists: Rc::new(Lists::new(lua, context)?),
    };
    let moments = Rc::new(Mutex::new(moments));
    let (context, state) = (Rc::clone(context), Rc::clone(state));
    lua.create_async_function(move |lua, _: MultiValue| {
        let (context, state) = (Rc::clone(&context), Rc::clone(&state));
        let (moments, locate) = (Rc::clone(&moments), locate.clone());
        async move {
            context.may_wait("etcd.services")?;
            let mut moments = moments.lock().await;
            let Some(keys) = next(&mut moments.source).await else {
                return Ok(Value::Nil);
            };
            let list = list(&lua, &context, &state, &locate, &keys, &mut moments).await?;
            Ok(Value::Table(list))
        }
    })
}

/// The keys that one loop over the services has yet to see, and what it has of those that it has seen.
struct Moments {
    /// None at the end.
    source: Option<KeySource>,
    places: Places,
    /// The lists of services.
    lists: Rc<Lists>,
}

/// Waits for keys that have not been returned yet; none if there will be no more.
async fn next(source: &mut Option<KeySource>) -> Option<Arc<Keys>> {
    match source {
        Some(KeySource::Live(receiver)) => loop {
            receiver.changed().await.ok()?;
            if let Some(keys) = receiver.borrow_and_update().clone() {
                return Some(keys);
            }
        },
        Some(KeySource::Once(keys)) => {
            let keys = Arc::clone(keys);
            *source = None;
            Some(keys)
        }
        None => None,
    }
}

/// The tables of the services that these keys make.
async fn list(
    lua: &Lua,
    context: &Rc<Context>,
    state: &Rc<RoutingState>,
    locate: &Function,
    keys: &Keys,
    moments: &mut Moments,
) -> Result<Table> {
    let Moments { places, lists, .. } = moments;
    let mut turn = Instant::now();
    // One that is interrupted here begins anew.
    let mut known = mem::take(places);
    for found in known.unlocated(&keys.found) {
        let place = locate_key(context, state, locate, &found);
        known.locate(&found.key, place);
        if turn.elapsed() > LONG_TURN {
            tokio::task::yield_now().await;
            turn = Instant::now();
        }
    }
    known.follow(&keys.found);
    let (services, left_out) = state.world.services.borrow_mut().update(&mut known);
    *places = known;
    let registered = Registered {
        services: services.clone(),
        left_out: left_out.clone(),
    };
    state
        .world
        .registered
        .send_replace(Some(Arc::new(registered)));
    let mut tables = state.tables.borrow_mut();
    let services = tables.update(lua, context.frozen(), &services)?;
    let items = services.iter().map(|service| Rc::clone(&service.table));
    let list = lists.list(lua, items.collect())?;
    state.current.replace(Some(Current {
        services,
        lists: Rc::clone(lists),
        left_out,
        revision: keys.revision,
    }));
    Ok(list)
}

/// Asks the policy where a key belongs. The error is the reason for leaving the key out.
fn locate_key(
    context: &Context,
    state: &RoutingState,
    locate: &Function,
    found: &Found,
) -> std::result::Result<Located, String> {
    let arguments = (&*found.key, &*found.value);
    match context.call(locate, arguments, Phase::Policy) {
        Ok(values) => read_located(context.frozen(), &values).map_err(|why| {
            Failure::of(locate, context.name_of(locate), format!("it {why}")).to_string()
        })?,
        Err(failure) => {
            state.world.errors.add_one();
            Err(format!(
                "{} failed for it: {failure}",
                quote("discover.service")
            ))
        }
    }
}
