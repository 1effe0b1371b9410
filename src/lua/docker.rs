//! `docker`: snapshots of the containers.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, Lua, Result, Table, Thread, Value};
use tokio::sync::Mutex;

use super::container::Containers;
use super::failure::Failure;
use super::{Host, Source};
use crate::container::Container;
use crate::difference::Difference;

/// The module's table.
pub(super) fn module(lua: &Lua, host: &Rc<Host>) -> Result<Table> {
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

/// The containers in a script's list.
pub(super) struct Listed {
    pub containers: Arc<[Arc<Container>]>,
    /// Where they are in the snapshot, if that has others too.
    places: Option<Vec<usize>>,
}

/// The tables of the containers of the newest snapshot.
pub(super) struct Tables {
    makes: Containers,
    copy: Function,
    splice: Function,
    same: Thread,
    slim: Function,
    containers: Arc<[Arc<Container>]>,
    /// The tables of these, in the same order, in a list that no script gets to see.
    list: Table,
}

impl Tables {
    /// None yet. `prelude` has what works on lists.
    pub fn new(lua: &Lua, prelude: &Table, makes: Containers) -> Result<Self> {
        let same = lua.create_thread(prelude.get("same")?)?;
        same.remove_hook();
        Ok(Self {
            makes,
            copy: prelude.get("copy")?,
            splice: prelude.get("splice")?,
            same,
            slim: prelude.get("slim")?,
            containers: Arc::default(),
            list: lua.create_table()?,
        })
    }

    /// Takes over a snapshot's containers. Returns a list of their tables, for the script to do with as it likes; that of
    /// a container which has not changed is the same as before.
    fn update(&mut self, lua: &Lua, containers: &Arc<[Arc<Container>]>) -> Result<Table> {
        let updated = self.replace(lua, containers);
        if updated.is_err() {
            // Half of it may have been replaced.
            self.list = lua.create_table()?;
            self.containers = Arc::default();
        }
        updated?;
        let copy = lua.create_table_with_capacity(containers.len(), 0)?;
        self.copy.call((&self.list, containers.len(), copy))
    }

    fn replace(&mut self, lua: &Lua, containers: &Arc<[Arc<Container>]>) -> Result<()> {
        let Difference { old, new } = Difference::new(&self.containers, containers);
        let mut known = HashMap::new();
        for place in old.clone() {
            known.insert(address(&self.containers[place]), self.at(place)?);
        }
        if old.len() != new.len() {
            let length = self.containers.len();
            self.splice
                .call::<()>((&self.list, old.end, new.end, length))?;
        }
        for place in new {
            let container = &containers[place];
            let table = match known.remove(&address(container)) {
                Some(table) => table,
                None => self.makes.table(lua, container)?,
            };
            self.list.raw_set(place + 1, table)?;
        }
        self.containers = Arc::clone(containers);
        Ok(())
    }

    /// The table of the container at that place, from 0.
    fn at(&self, place: usize) -> Result<Table> {
        self.list.raw_get(place + 1)
    }

    /// The containers in a script's list, which may leave some of the snapshot out, and their places. Each is there once.
    pub fn read(&self, list: &Table) -> Result<Listed> {
        let whole = (&self.list, list, self.containers.len());
        if self.same.resume(whole)? {
            return Ok(Listed {
                containers: Arc::clone(&self.containers),
                places: None,
            });
        }
        if list.pairs::<Value, Value>().count() != list.sequence_values::<Value>().count() {
            return Err(Failure::raise(
                "etcd.sync: the list of containers has holes, and what comes after one would be lost; \
                 build a new list instead",
            ));
        }
        let mut by_table = HashMap::with_capacity(self.containers.len());
        for (place, table) in self.list.sequence_values::<Table>().enumerate() {
            by_table.insert(table?.to_pointer(), (place, false));
        }
        let mut places = Vec::with_capacity(by_table.len());
        for (index, item) in list.sequence_values::<Value>().enumerate() {
            let Some((place, seen)) = by_table.get_mut(&item?.to_pointer()) else {
                return Err(Failure::raise(format!(
                    "etcd.sync: item {} of the list is no container of the newest snapshot",
                    index + 1
                )));
            };
            if !std::mem::replace(seen, true) {
                places.push(*place);
            }
        }
        let containers = places
            .iter()
            .map(|place| Arc::clone(&self.containers[*place]));
        Ok(Listed {
            containers: containers.collect(),
            places: Some(places),
        })
    }

    /// The table of a container of such a list.
    pub fn table(&self, listed: &Listed, index: usize) -> Result<Table> {
        let places = listed.places.as_ref();
        self.at(places.map_or(index, |places| places[index]))
    }

    /// Lets go of what was made of a container's table on demand; it is made again for whoever asks.
    pub fn slim(&self, table: &Table) -> Result<()> {
        self.slim.call(table)
    }
}

fn address(container: &Arc<Container>) -> usize {
    Arc::as_ptr(container) as usize
}
