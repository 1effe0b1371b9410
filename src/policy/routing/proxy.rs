//! The module `proxy`: hands the wanted routes over. It asks the policy about each service that has changed, lets each
//! address have one owner, and asks for the files; `discover` makes them so.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, Lua, MultiValue, Result, Table, Value};
use tracing::{debug, error, info, warn};

use super::listeners::Listeners;
use super::reading::{Said, read_files, read_listener};
use super::state::{Current, RoutingState};
use crate::base::text::quote;
use crate::policy::Report;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::{Context, Phase};
use crate::policy::verdicts::FunctionId;
use crate::routes::{Bound, Claim, File, LeftOut, Listener, Route, Routes, Service, ServiceId};

/// How long `proxy.sync` calls the policy before other tasks get a turn.
const LONG_TURN: Duration = Duration::from_millis(10);

pub fn module(lua: &Lua, context: &Rc<Context>, state: &Rc<RoutingState>) -> Result<Table> {
    let module = lua.create_table()?;
    let options = &state.world.options.proxy;
    module.set("name", options.name.as_str())?;
    module.set("directory", options.directory.as_str())?;
    module.set("socket", options.socket.as_str())?;
    module.set("state_file", options.state_file.as_str())?;
    module.set("pid_file", options.pid_file.as_str())?;
    let shared = (Rc::clone(context), Rc::clone(state));
    module.set(
        "sync",
        lua.create_async_function(move |lua, arguments: MultiValue| {
            let (context, state) = shared.clone();
            async move { sync(&lua, &context, &state, arguments).await }
        })?,
    )?;
    Ok(module)
}

async fn sync(
    lua: &Lua,
    context: &Context,
    state: &RoutingState,
    arguments: MultiValue,
) -> Result<()> {
    context.may_wait("proxy.sync")?;
    let (Some(Value::Table(list)), Some(Value::Function(listener)), Some(Value::Function(files))) =
        (arguments.front(), arguments.get(1), arguments.get(2))
    else {
        return Err(Failure::raise(
            "proxy.sync takes the list of services, the function that makes the listener of one, and the function that \
             makes the files of all",
        ));
    };
    let Some(current) = state.current.take() else {
        return Err(Failure::raise(
            "proxy.sync was called twice for one list of services, and the second would undo the first",
        ));
    };
    let Current {
        services,
        left_out,
        revision,
    } = current;
    let services = listed(list, services)?;
    ask(context, state, listener, &services).await?;
    let (routes, unrouted, refused, without_address) = settle(state, &services);
    let left_out: BTreeSet<LeftOut> = left_out.into_iter().chain(unrouted).collect();
    let by_id: HashMap<_, _> = services
        .iter()
        .map(|(service, table)| (&service.id, table))
        .collect();
    let in_files = routes.iter();
    let in_files = in_files.filter(|route| !without_address.contains(&route.service.id));
    let listeners = in_files.filter_map(|route| {
        let table = by_id.get(&route.service.id)?;
        Some(((*table).clone(), route.listener.clone()))
    });
    let listeners: Vec<(Table, Listener)> = listeners.collect();
    let files =
        files_of(lua, context, files, &listeners).inspect_err(|_| state.world.errors.add_one())?;
    report(state, &routes, &left_out);
    let routes = Routes {
        services: routes,
        files: files.into(),
        left_out: left_out.into_iter().chain(refused).collect(),
        revision,
    };
    state.world.routes.send_replace(Some(Arc::new(routes)));
    state.given.tell_unread(context);
    Ok(())
}

/// The services in a script's list, which may lack some of those that it got.
fn listed(
    list: &Table,
    services: Vec<(Arc<Service>, Table)>,
) -> Result<Vec<(Arc<Service>, Table)>> {
    let by_table = services
        .into_iter()
        .map(|(service, table)| (table.to_pointer(), (service, table)));
    let mut by_table: HashMap<_, _> = by_table.collect();
    let items = list.sequence_values::<Value>().enumerate().map(|(place, item)| {
        by_table.remove(&item?.to_pointer()).ok_or_else(|| {
            Failure::raise(format!(
                "proxy.sync: item {} of the list is not a service of the newest list, or it is there twice",
                place + 1
            ))
        })
    });
    items.collect()
}

/// Asks the policy about each service that has changed.
async fn ask(
    context: &Context,
    state: &RoutingState,
    function: &Function,
    services: &[(Arc<Service>, Table)],
) -> Result<()> {
    let id = state.id_of("listener", function);
    let by_id = services.iter().map(|(service, _)| (&service.id, service));
    state.world.listeners.borrow_mut().retain(&by_id.collect());
    let mut turn = Instant::now();
    for (service, table) in services {
        if state.world.listeners.borrow().is_current(service, id) {
            continue;
        }
        let result = context.call(function, table.clone(), Phase::Policy);
        let result = result.and_then(|values| {
            read_listener(context.frozen(), &values).map_err(|why| {
                Failure::of(function, context.name_of(function), format!("it {why}"))
            })
        });
        if let Err(failure) = &result {
            state.world.errors.add_one();
            if failure.is_timeout() {
                // A second for each service would keep the thread busy for minutes.
                return Err(mlua::Error::external(failure.clone()));
            }
        }
        record(state, service, id, result);
        if turn.elapsed() > LONG_TURN {
            tokio::task::yield_now().await;
            turn = Instant::now();
        }
    }
    Ok(())
}

/// Keeps what the policy said of a service, and logs a failure that is news.
fn record(
    state: &RoutingState,
    service: &Arc<Service>,
    function: FunctionId,
    result: std::result::Result<Said, Failure>,
) {
    let shown = result.as_ref().err().map(ToString::to_string);
    let mut listeners = state.world.listeners.borrow_mut();
    let is_news = listeners.record(service, function, result);
    if let Some(failure) = shown.filter(|_| is_news) {
        error!(
            "service {}: {failure}\n  {}",
            service.id,
            consequence(&listeners, service)
        );
    }
}

fn consequence(listeners: &Listeners, service: &Service) -> &'static str {
    match listeners
        .get(service)
        .and_then(|verdict| verdict.said.as_ref())
    {
        Some(_) => "its route stays as it was",
        None => "it has no route",
    }
}

/// Gives each address an owner. Returns the routes of all services, those that are left out, the addresses that none
/// got, and the services that want addresses and have got none, which are in no file.
fn settle(
    state: &RoutingState,
    services: &[(Arc<Service>, Table)],
) -> (
    Vec<Route>,
    BTreeSet<LeftOut>,
    BTreeSet<LeftOut>,
    BTreeSet<ServiceId>,
) {
    let mut listeners = state.world.listeners.borrow_mut();
    let mut left_out = BTreeSet::new();
    let mut routes = Vec::with_capacity(services.len());
    for (service, _) in services {
        let what = || format!("service {}", service.id);
        let Some(verdict) = listeners.get(service) else {
            continue;
        };
        let failure = verdict.failure.as_ref().map(ToString::to_string);
        match (&verdict.said, &failure) {
            (Some(Said::Listener(listener, servers)), _) => {
                left_out.extend(servers.iter().map(|(name, why)| LeftOut {
                    what: format!("server {} of service {}", quote(name), service.id),
                    why: why.clone(),
                }));
                routes.push(Route {
                    service: Arc::clone(service),
                    listener: listener.clone(),
                    failure,
                });
            }
            (Some(Said::Nothing(why)), _) => drop(left_out.insert(LeftOut {
                what: what(),
                why: why.clone(),
            })),
            (None, Some(failure)) => {
                let why = format!("the policy failed for it: {failure}");
                left_out.insert(LeftOut { what: what(), why });
            }
            (None, None) => {}
        }
    }
    let claims: Vec<Claim> = routes.iter().flat_map(claims_of).collect();
    let verdicts = (state.world.owners)(&claims);
    let (mut refused, mut without_address) = (BTreeSet::new(), BTreeSet::new());
    for (claim, verdict) in claims.iter().zip(verdicts) {
        let Err(why) = verdict else { continue };
        let route = routes
            .iter_mut()
            .find(|route| route.service.id == claim.service);
        let Some(Route { listener, .. }) = route else {
            continue;
        };
        let addresses = if claim.is_shared {
            &mut listener.shared
        } else {
            &mut listener.listen
        };
        let lost = claim.bound.address;
        addresses.retain(|address| *address != lost);
        if listener.listen.is_empty() && listener.shared.is_empty() {
            without_address.insert(claim.service.clone());
        }
        let what = format!("address {lost} of service {}", claim.service);
        refused.insert(LeftOut { what, why });
    }
    for news in listeners.refuse(refused.clone()) {
        warn!("{news}");
    }
    (routes, left_out, refused, without_address)
}

fn claims_of(route: &Route) -> impl Iterator<Item = Claim> {
    let Route {
        service, listener, ..
    } = route;
    let own = listener.listen.iter().map(|address| (*address, false));
    let all = own.chain(listener.shared.iter().map(|address| (*address, true)));
    all.map(|(address, is_shared)| Claim {
        service: service.id.clone(),
        created: service.created,
        bound: Bound {
            protocol: service.protocol,
            address,
        },
        is_shared,
    })
}

/// The listener that a policy's function has returned; none if the service is left out.
pub fn read_listener_of(
    context: &Context,
    values: &MultiValue,
) -> std::result::Result<Option<Listener>, String> {
    Ok(match read_listener(context.frozen(), values)? {
        Said::Listener(listener, _) => Some(listener),
        Said::Nothing(_) => None,
    })
}

/// The files that a policy's function makes of services.
pub fn files_of(
    lua: &Lua,
    context: &Context,
    function: &Function,
    services: &[(Table, Listener)],
) -> Result<Vec<File>> {
    let tables = services
        .iter()
        .map(|(table, listener)| with_listener(lua, table, listener));
    let tables = lua.create_sequence_from(tables.collect::<Result<Vec<Table>>>()?)?;
    let result = context.call(function, tables, Phase::Policy);
    let result = result.and_then(|values| {
        read_files(context.frozen(), &values)
            .map_err(|why| Failure::of(function, context.name_of(function), format!("it {why}")))
    });
    result.map_err(mlua::Error::external)
}

/// The table of a service, with its listener.
fn with_listener(lua: &Lua, table: &Table, listener: &Listener) -> Result<Table> {
    let addresses =
        |all: &[SocketAddr]| lua.create_sequence_from(all.iter().map(ToString::to_string));
    let servers = listener.servers.iter().map(|server| {
        let table = lua.create_table()?;
        table.raw_set("name", &*server.name)?;
        table.raw_set("address", server.address.to_string())?;
        table.raw_set("options", &*server.options)?;
        Ok(table)
    });
    let fields = lua.create_table()?;
    fields.raw_set("listen", addresses(&listener.listen)?)?;
    fields.raw_set("shared", addresses(&listener.shared)?)?;
    let servers = servers.collect::<Result<Vec<Table>>>()?;
    fields.raw_set("servers", lua.create_sequence_from(servers)?)?;
    let service = lua.create_table()?;
    service.raw_set("listener", fields)?;
    // The fields of the service are read through it.
    let metatable = lua.create_table()?;
    metatable.raw_set("__index", table)?;
    service.set_metatable(Some(metatable))?;
    Ok(service)
}

fn report(state: &RoutingState, routes: &[Route], left_out: &BTreeSet<LeftOut>) {
    match routes.iter().find_map(|route| route.failure.as_ref()) {
        Some(failure) => state.world.condition.bad(failure),
        None => state.world.condition.good(),
    }
    let mut listeners = state.world.listeners.borrow_mut();
    for news in listeners.leave_out(left_out.clone()) {
        match state.world.report {
            Report::All => info!("{news}"),
            Report::Failures => debug!("{news}"),
            Report::Nothing => {}
        }
    }
}
