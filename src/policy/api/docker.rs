//! `docker`: snapshots of the containers.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{FromLuaMulti, Function, IntoLuaMulti, Lua, Result, Table, Thread, Value};
use tokio::sync::Mutex;

use super::container::Containers;
use crate::base::by_age::{ByAge, Rank, Ranked as _};
use crate::container::Container;
use crate::policy::sandbox::failure::Failure;
use crate::policy::{Host, Source};

/// The module's table.
pub fn module(lua: &Lua, host: &Rc<Host>) -> Result<Table> {
    let module = lua.create_table()?;
    let (for_watch, for_list) = (Rc::clone(host), Rc::clone(host));
    module.set(
        "watch",
        lua.create_function(move |lua, ()| watch(lua, &for_watch))?,
    )?;
    module.set(
        "containers",
        lua.create_async_function(move |lua, ()| {
            let host = Rc::clone(&for_list);
            async move {
                host.may_wait("docker.containers")?;
                let mut source = host.world.source.clone();
                next(&lua, &host, &mut source).await
            }
        })?,
    )?;
    Ok(module)
}

/// An iterator over snapshots, for a generic `for`. It ends only where the source does.
fn watch(lua: &Lua, host: &Rc<Host>) -> Result<Function> {
    host.may_wait("docker.watch")?;
    let mut source = host.world.source.clone();
    if let Source::Live(snapshots) = &mut source {
        // The one that is there already is news to this loop.
        snapshots.mark_changed();
    }
    let source = Rc::new(Mutex::new(Some(source)));
    let host = Rc::clone(host);
    lua.create_async_function(move |lua, _: mlua::MultiValue| {
        let (host, source) = (Rc::clone(&host), Rc::clone(&source));
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
                    next(&lua, &host, live).await
                }
                Some(once @ Source::Once(_)) => {
                    let list = next(&lua, &host, once).await;
                    *source = None;
                    list
                }
                None => Ok(Value::Nil),
            }
        }
    })
}

/// The list of the newest snapshot, once there is one; nil if there never will be.
async fn next(lua: &Lua, host: &Host, source: &mut Source) -> Result<Value> {
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
    let list = host.tables()?.update(lua, &snapshot.containers)?;
    host.current.replace(Some(snapshot));
    Ok(Value::Table(list))
}

/// The tables of the containers of the newest snapshot.
pub struct Tables {
    makes: Containers,
    copy: Unlimited,
    splice: Function,
    same: Unlimited,
    slim: Function,
    containers: ByAge<Container>,
    /// The places of these in the order.
    ranks: Vec<Rank>,
    /// Their tables, in this order, in a list that no script gets to see.
    list: Table,
}

impl Tables {
    /// None yet. `prelude` has what works on lists.
    pub fn new(lua: &Lua, prelude: &Table, makes: Containers) -> Result<Self> {
        Ok(Self {
            makes,
            copy: Unlimited::new(lua, prelude.get("copy")?)?,
            splice: prelude.get("splice")?,
            same: Unlimited::new(lua, prelude.get("same")?)?,
            slim: prelude.get("slim")?,
            containers: ByAge::default(),
            ranks: Vec::new(),
            list: lua.create_table()?,
        })
    }

    /// Takes over a snapshot's containers. Returns a list of their tables, for the script to do with as it likes; that of
    /// a container which has not changed is the same as before.
    fn update(&mut self, lua: &Lua, containers: &ByAge<Container>) -> Result<Table> {
        let updated = self.replace(lua, containers);
        if updated.is_err() {
            // Half of it may have been replaced.
            self.ranks.clear();
            self.containers = ByAge::default();
            self.list.clear()?;
        }
        updated?;
        let length = self.ranks.len();
        let copy = lua.create_table_with_capacity(length, 0)?;
        self.copy.call::<()>((&self.list, &copy, length))?;
        Ok(copy)
    }

    fn replace(&mut self, lua: &Lua, containers: &ByAge<Container>) -> Result<()> {
        let changes = self.containers.changes(containers);
        // From behind, so that what goes together moves nothing that goes as well.
        for change in changes.iter().rev().filter(|change| change.new.is_none()) {
            if let Ok(place) = self.ranks.binary_search(&change.rank) {
                self.splice
                    .call::<()>((&self.list, place + 1, place, self.ranks.len()))?;
                self.ranks.remove(place);
            }
        }
        for change in changes {
            let Some(container) = change.new else {
                continue;
            };
            let table = self.makes.table(lua, &container)?;
            let place = match self.ranks.binary_search(&change.rank) {
                Ok(place) => place,
                Err(place) => {
                    if place < self.ranks.len() {
                        self.splice
                            .call::<()>((&self.list, place, place + 1, self.ranks.len()))?;
                    }
                    self.ranks.insert(place, change.rank);
                    place
                }
            };
            self.list.raw_set(place + 1, table)?;
        }
        self.containers = containers.clone();
        Ok(())
    }

    /// The containers in a script's list, which may leave some of the snapshot out.
    pub fn read(&self, list: &Table) -> Result<ByAge<Container>> {
        // What a metatable adds may raise an error where none is expected.
        if list.metatable().is_none() && self.same.call((&self.list, list, self.ranks.len()))? {
            return Ok(self.containers.clone());
        }
        if list.pairs::<Value, Value>().count() != list.sequence_values::<Value>().count() {
            return Err(Failure::raise(
                "etcd.sync: the list of containers has holes, and what comes after one would be lost; \
                 build a new list instead",
            ));
        }
        let mut by_table = HashMap::with_capacity(self.ranks.len());
        let tables = self.list.sequence_values::<Table>();
        for (table, rank) in tables.zip(&self.ranks) {
            by_table.insert(table?.to_pointer(), rank);
        }
        let mut listed = ByAge::default();
        for (index, item) in list.sequence_values::<Value>().enumerate() {
            let rank = by_table.get(&item?.to_pointer());
            let container = rank.and_then(|rank| self.containers.get(rank));
            let container = container.ok_or_else(|| {
                Failure::raise(format!(
                    "etcd.sync: item {} of the list is no container of the newest snapshot",
                    index + 1
                ))
            })?;
            listed.insert(Arc::clone(container));
        }
        Ok(listed)
    }

    /// The table of one of the containers.
    pub fn of(&self, container: &Container) -> Result<Table> {
        match self.ranks.binary_search(&container.rank()) {
            Ok(place) => self.list.raw_get(place + 1),
            Err(_) => Err(Failure::raise("a container has no table")),
        }
    }

    /// Lets go of what was made of a container's table on demand; it is made again for whoever asks.
    pub fn slim(&self, table: &Table) -> Result<()> {
        self.slim.call(table)
    }
}

/// Work of the prelude's that has no time limit, which makes it several times as fast: a coroutine that takes it up again
/// with each call.
struct Unlimited {
    work: Function,
    thread: Thread,
}

impl Unlimited {
    fn new(lua: &Lua, work: Function) -> Result<Self> {
        let thread = lua.create_thread(work.clone())?;
        thread.remove_hook();
        Ok(Self { work, thread })
    }

    fn call<R: FromLuaMulti>(&self, arguments: impl IntoLuaMulti) -> Result<R> {
        let result = self.thread.resume(arguments);
        if result.is_err() {
            // One that has failed, for want of memory, is dead.
            self.thread.reset(self.work.clone())?;
            self.thread.remove_hook();
        }
        result
    }
}
