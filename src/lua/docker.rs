//! `docker`: snapshots of the containers.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, Lua, Result, Table, Value};
use tokio::sync::Mutex;

use super::container::Containers;
use super::{Host, Source};
use crate::container::Container;
use crate::docker::Snapshot;

/// The module's table.
pub(super) fn module(lua: &Lua, host: &Rc<Host>, containers: &Rc<Containers>) -> Result<Table> {
    let module = lua.create_table()?;
    let (for_watch, for_list) = (
        (Rc::clone(host), Rc::clone(containers)),
        (Rc::clone(host), Rc::clone(containers)),
    );
    module.set(
        "watch",
        lua.create_function(move |lua, ()| watch(lua, &for_watch.0, &for_watch.1))?,
    )?;
    module.set(
        "containers",
        lua.create_async_function(move |lua, ()| {
            let (host, containers) = (Rc::clone(&for_list.0), Rc::clone(&for_list.1));
            async move {
                host.may_wait("docker.containers")?;
                let mut source = host.world.source.clone();
                next(&lua, &host, &containers, &mut source).await
            }
        })?,
    )?;
    Ok(module)
}

/// An iterator over snapshots, for a generic `for`. It ends only where the source does.
fn watch(lua: &Lua, host: &Rc<Host>, containers: &Rc<Containers>) -> Result<Function> {
    host.may_wait("docker.watch")?;
    let mut source = host.world.source.clone();
    if let Source::Live(snapshots) = &mut source {
        // The one that is there already is news to this loop.
        snapshots.mark_changed();
    }
    let source = Rc::new(Mutex::new(Some(source)));
    let (host, containers) = (Rc::clone(host), Rc::clone(containers));
    lua.create_async_function(move |lua, _: mlua::MultiValue| {
        let (host, containers, source) =
            (Rc::clone(&host), Rc::clone(&containers), Rc::clone(&source));
        async move {
            host.may_wait("docker.watch")?;
            let mut source = source.lock().await;
            match &mut *source {
                Some(live @ Source::Live(_)) => {
                    if let Source::Live(snapshots) = live
                        && snapshots.changed().await.is_err()
                    {
                        return Ok(Value::Nil);
                    }
                    next(&lua, &host, &containers, live).await
                }
                Some(once @ Source::Once(_)) => {
                    let list = next(&lua, &host, &containers, once).await;
                    *source = None;
                    list
                }
                None => Ok(Value::Nil),
            }
        }
    })
}

/// The list of the newest snapshot, once there is one; nil if there never will be.
async fn next(
    lua: &Lua,
    host: &Host,
    containers: &Containers,
    source: &mut Source,
) -> Result<Value> {
    let snapshot = match source {
        Source::Once(snapshot) => Arc::clone(snapshot),
        Source::Live(snapshots) => loop {
            if let Some(snapshot) = snapshots.borrow_and_update().clone() {
                break snapshot;
            }
            if snapshots.changed().await.is_err() {
                return Ok(Value::Nil);
            }
        },
    };
    let list = list(lua, host, containers, &snapshot)?;
    host.current.replace(Some(snapshot));
    Ok(Value::Table(list))
}

/// The containers of a snapshot; one that has not changed is the same table as in the snapshot before.
fn list(lua: &Lua, host: &Host, containers: &Containers, snapshot: &Snapshot) -> Result<Table> {
    let before = host.tables.take();
    let mut tables = Tables::default();
    let list = lua.create_table_with_capacity(snapshot.containers.len(), 0)?;
    for container in &snapshot.containers {
        let table = match before.by_container.get(&address(container)) {
            Some((_, table)) => table.clone(),
            None => containers.table(lua, container)?,
        };
        list.raw_push(&table)?;
        tables.insert(container, table);
    }
    host.tables.replace(tables);
    Ok(list)
}

/// The tables of the containers of the newest snapshot, found by address in both directions. Both sides are kept
/// here, so no address can be that of another by now.
#[derive(Default)]
pub(super) struct Tables {
    by_container: HashMap<usize, (Arc<Container>, Table)>,
    by_table: HashMap<usize, Arc<Container>>,
}

impl Tables {
    /// The container that a value is the table of.
    pub fn of(&self, value: &Value) -> Option<Arc<Container>> {
        self.by_table.get(&(value.to_pointer() as usize)).cloned()
    }

    fn insert(&mut self, container: &Arc<Container>, table: Table) {
        self.by_table
            .insert(table.to_pointer() as usize, Arc::clone(container));
        self.by_container
            .insert(address(container), (Arc::clone(container), table));
    }
}

fn address(container: &Arc<Container>) -> usize {
    Arc::as_ptr(container) as usize
}
