//! `etcd`: keys, the wanted state, and reading.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, Lua, MultiValue, Result, Table, Value, Variadic};
use tracing::{debug, error, info};

use super::entries::{read, read_left_out};
use crate::base::key::join;
use crate::base::text::quote;
use crate::container::Container;
use crate::ops::outage::Outage;
use crate::policy::sandbox::failure::{Failure, name_of};
use crate::policy::sandbox::frozen::Frozen;
use crate::policy::verdicts::Mapper;
use crate::policy::{Host, Phase, Report, Source};
use crate::store::StoreError;
use crate::store::etcd::Connection;

/// After how long others get their turn.
const LONG_TURN: Duration = Duration::from_millis(10);

/// The module's table.
pub fn module(lua: &Lua, host: &Rc<Host>, frozen: &Frozen) -> Result<Table> {
    let module = lua.create_table()?;
    module.set("key", lua.create_function(key)?)?;
    let (for_sync, frozen) = (Rc::clone(host), frozen.clone());
    module.set(
        "sync",
        lua.create_async_function(move |_, arguments: MultiValue| {
            sync(Rc::clone(&for_sync), frozen.clone(), arguments)
        })?,
    )?;
    let for_get = Rc::clone(host);
    module.set(
        "get",
        lua.create_async_function(move |_, key: String| {
            let host = Rc::clone(&for_get);
            async move {
                host.may_wait("etcd.get")?;
                read_etcd(&host, async |etcd| etcd.get(&key).await).await
            }
        })?,
    )?;
    let for_list = Rc::clone(host);
    module.set(
        "list",
        lua.create_async_function(move |lua, prefix: String| {
            let host = Rc::clone(&for_list);
            async move {
                host.may_wait("etcd.list")?;
                let listing = read_etcd(&host, async |etcd| etcd.list(&prefix).await).await?;
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

/// Reads etcd. Where the script runs for ever, it waits for an etcd that cannot be reached.
async fn read_etcd<T>(
    host: &Host,
    read: impl AsyncFn(&mut Connection) -> std::result::Result<T, StoreError>,
) -> Result<T> {
    let ttl = Duration::from_secs(host.world.options.ttl.into());
    let mut outage = Outage::new("etcd", "the policy, which reads etcd, waits", ttl);
    loop {
        let result = read(&mut *host.world.reader.lock().await).await;
        match (result, &host.world.source) {
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
    let mut texts = Vec::with_capacity(segments.len());
    for (index, segment) in segments.iter().enumerate() {
        texts.push(match segment {
            Value::String(text) => match text.to_str() {
                Ok(text) => text.to_owned(),
                Err(_) => {
                    return Err(Failure::raise(format!(
                        "etcd.key: segment {} is not UTF-8: {}",
                        index + 1,
                        quote(&text.to_string_lossy())
                    )));
                }
            },
            Value::Integer(number) => number.to_string(),
            other => {
                return Err(Failure::raise(format!(
                    "etcd.key: segment {} is a {}; it is a string or a whole number",
                    index + 1,
                    other.type_name()
                )));
            }
        });
    }
    join(&texts).map_err(|why| Failure::raise(why.to_string()))
}

/// Calls `map` once for each container that has changed, and hands over what should exist.
async fn sync(host: Rc<Host>, frozen: Frozen, arguments: MultiValue) -> Result<()> {
    host.may_wait("etcd.sync")?;
    let (Some(Value::Table(containers)), Some(Value::Function(map))) =
        (arguments.front(), arguments.get(1))
    else {
        return Err(Failure::raise(
            "etcd.sync takes the list of containers and the function that makes the entries of one",
        ));
    };
    let Some(snapshot) = host.current.take() else {
        return Err(Failure::raise(
            "etcd.sync was called twice for one snapshot, and the second would undo the first; \
             join the two lists of entries in one function",
        ));
    };
    let list = host.tables()?.read(containers)?;
    let mapper = host.mapper(map);
    let round = host.world.verdicts.borrow_mut().begin(list, mapper);
    let mut turn = Instant::now();
    for container in &round.news {
        if host.world.verdicts.borrow().is_settled(container, mapper) {
            continue;
        }
        let table = host.tables()?.of(container)?;
        call(&host, &frozen, map, mapper, container, &table);
        // Its labels, ports and so on take more memory than all else that is kept of it. This is an economy, and where there
        // is no memory for it either, the others still have their turn.
        let _ = host.tables()?.slim(&table);
        if turn.elapsed() > LONG_TURN {
            tokio::task::yield_now().await;
            turn = Instant::now();
        }
    }
    let unreadable = snapshot.unreadable.iter();
    let protected = unreadable.flat_map(|unreadable| unreadable.marks.iter().cloned());
    let mut wanted = host
        .world
        .verdicts
        .borrow_mut()
        .end(round, protected.collect());
    wanted.running = snapshot.containers.clone();
    wanted.outside.clone_from(&snapshot.outside);
    host.world.wanted.send_replace(Some(Arc::new(wanted)));
    match host.world.verdicts.borrow().failure_of_all() {
        Some(failure) => host.world.condition.bad(&failure),
        None => host.world.condition.good(),
    }
    Ok(())
}

fn call(
    host: &Host,
    frozen: &Frozen,
    map: &Function,
    mapper: Mapper,
    container: &Arc<Container>,
    table: &Table,
) {
    let of_map = |why: String| {
        let name = name_of(map, host.decisions.borrow().as_ref());
        Failure::of(map, name, why)
    };
    let result = host.call(map, Some(table.clone()), Phase::Policy);
    let result = result.map_err(|failure| failure.or_at(|| of_map(String::new()).place));
    let result = result.and_then(|values| {
        let entries = values.front().unwrap_or(&Value::Nil);
        let entries = read(frozen, entries, host.world.options.ttl).map_err(of_map)?;
        Ok((entries, read_left_out(frozen, values.get(1))))
    });
    let mut verdicts = host.world.verdicts.borrow_mut();
    let name = || quote(&container.name);
    match result {
        Ok((entries, left_out)) => {
            if let Some(left_out) = verdicts.succeed(container, mapper, entries, left_out) {
                for why in left_out {
                    match host.world.report {
                        Report::All => info!("{}: left out: {why}", name()),
                        Report::Failures => debug!("{}: left out: {why}", name()),
                        Report::Nothing => {}
                    }
                }
            }
        }
        Err(failure) => {
            host.world.errors.add_one();
            if let Some(consequence) = verdicts.fail(container, mapper, &failure)
                && host.world.report != Report::Nothing
            {
                error!("{}: {failure}\n  {consequence}", name());
            }
        }
    }
}
