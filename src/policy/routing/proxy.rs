//! The module `proxy`: hands the wanted routes over. It asks the policy about each service that has changed, lets each
//! address have one owner, and asks for the files; `discover` makes them so.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, Lua, MultiValue, Result, Table, Value};
use tracing::{debug, error, info, warn};

use super::files::Reader;
use super::listeners::Listeners;
use super::lists::Lists;
use super::reading::{Said, read_listener};
use super::state::{Current, RoutingState};
use super::tables::ServiceTable;
use crate::base::text::quote;
use crate::policy::Report;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::{Context, Phase};
use crate::policy::verdicts::FunctionId;
use crate::routes::{Bound, Claim, File, LeftOut, Listener, Route, Routes, Service};

/// How long `proxy.sync` calls the policy before other tasks get a turn.
const LONG_TURN: Duration = Duration::from_millis(10);

/// A route, and its service's table.
struct Routed {
    route: Route,
    table: Rc<ServiceTable>,
    wants_address: bool,
}

impl Routed {
    /// A service that wants addresses and has got none is in no file.
    fn is_in_files(&self) -> bool {
        !self.wants_address || self.route.listener.has_address()
    }
}

pub fn module(lua: &Lua, context: &Rc<Context>, state: &Rc<RoutingState>) -> Result<Table> {
    let module = lua.create_table()?;
    let options = &state.world.options.proxy;
    module.set("name", options.name.as_str())?;
    module.set("directory", options.directory.as_str())?;
    module.set("socket", options.socket.as_str())?;
    module.set("state_file", options.state_file.as_str())?;
    module.set("pid_file", options.pid_file.as_str())?;
    module.set("read_only", context.tool::<Function>("read_only")?)?;
    let files = Rc::new(Files {
        reader: Reader::new(lua, context)?,
        lists: Lists::new(lua, context)?,
    });
    let shared = (Rc::clone(context), Rc::clone(state), files);
    module.set(
        "sync",
        lua.create_async_function(move |lua, arguments: MultiValue| {
            let (context, state, files) = shared.clone();
            async move { sync(&lua, &context, &state, &files, arguments).await }
        })?,
    )?;
    Ok(module)
}

/// What is kept from one call of a policy's `files` to the next.
struct Files {
    reader: Reader,
    lists: Lists,
}

async fn sync(
    lua: &Lua,
    context: &Context,
    state: &RoutingState,
    kept: &Files,
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
        lists,
        left_out,
        revision,
    } = current;
    let services = if lists.is_last(list)? {
        services
    } else {
        listed(list, services)?
    };
    ask(context, state, listener, &services).await?;
    let (settled, unrouted, refused) = settle(state, services);
    let left_out: BTreeSet<LeftOut> = left_out.into_iter().chain(unrouted).collect();
    let tables = settled.iter().filter(|routed| routed.is_in_files()).map(
        |Routed { route, table, .. }| table.with_listener(lua, context.frozen(), &route.listener),
    );
    let tables = kept.lists.list(lua, tables.collect::<Result<_>>()?)?;
    let files = files_of(lua, context, &kept.reader, files, tables);
    let files = files.inspect_err(|_| state.world.errors.add_one())?;
    let routes: Vec<Route> = settled.into_iter().map(|routed| routed.route).collect();
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
fn listed(list: &Table, services: Vec<Rc<ServiceTable>>) -> Result<Vec<Rc<ServiceTable>>> {
    let by_table = services
        .into_iter()
        .map(|service| (service.table.to_pointer(), service));
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
    services: &[Rc<ServiceTable>],
) -> Result<()> {
    let id = state.id_of("listener", function);
    let mut turn = Instant::now();
    for known in services {
        let (service, table) = (&known.service, &known.table);
        if state.world.listeners.borrow().is_current(service, id) {
            continue;
        }
        let result = context.call(function, Table::clone(table), Phase::Policy);
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
    state.world.listeners.borrow_mut().retain(services);
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

/// Gives each address an owner. Returns the routes of all services, those that are left out, and the addresses that
/// none got.
fn settle(
    state: &RoutingState,
    services: Vec<Rc<ServiceTable>>,
) -> (Vec<Routed>, BTreeSet<LeftOut>, BTreeSet<LeftOut>) {
    let mut listeners = state.world.listeners.borrow_mut();
    let mut left_out = BTreeSet::new();
    let mut routed: Vec<Routed> = Vec::with_capacity(services.len());
    for table in services {
        let service = &table.service;
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
                let route = Route {
                    service: Arc::clone(service),
                    listener: Arc::clone(listener),
                    failure,
                };
                routed.push(Routed {
                    wants_address: listener.has_address(),
                    route,
                    table,
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
    let refused = share_out(state, &mut routed);
    for news in listeners.refuse(refused.clone()) {
        warn!("{news}");
    }
    (routed, left_out, refused)
}

/// Takes the addresses from the routes that do not get them. Returns the reasons.
fn share_out(state: &RoutingState, routed: &mut [Routed]) -> BTreeSet<LeftOut> {
    let (mut claims, mut places) = (Vec::new(), Vec::new());
    for (place, routed) in routed.iter().enumerate() {
        claims.extend(claims_of(&routed.route));
        places.resize(claims.len(), place);
    }
    let verdicts = (state.world.owners)(&claims);
    let mut refused = BTreeSet::new();
    for ((claim, place), verdict) in claims.iter().zip(places).zip(verdicts) {
        let Err(why) = verdict else { continue };
        let listener = Arc::make_mut(&mut routed[place].route.listener);
        let addresses = if claim.is_shared {
            &mut listener.shared
        } else {
            &mut listener.listen
        };
        let lost = claim.bound.address;
        addresses.retain(|address| *address != lost);
        let what = format!("address {lost} of service {}", claim.service);
        refused.insert(LeftOut { what, why });
    }
    refused
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
) -> std::result::Result<Option<Arc<Listener>>, String> {
    Ok(match read_listener(context.frozen(), values)? {
        Said::Listener(listener, _) => Some(listener),
        Said::Nothing(_) => None,
    })
}

/// The files that a policy's function makes of a list of services, which have their listener in their tables.
pub fn files_of(
    lua: &Lua,
    context: &Context,
    reader: &Reader,
    function: &Function,
    services: Table,
) -> Result<Vec<File>> {
    let result = context.call(function, services, Phase::Policy);
    let result = result.and_then(|values| {
        let files = reader.read(lua, &values);
        files.map_err(|why| Failure::of(function, context.name_of(function), format!("it {why}")))
    });
    result.map_err(mlua::Error::external)
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
