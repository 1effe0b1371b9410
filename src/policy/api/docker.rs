//! The module `docker`: snapshots of the containers, as lists of their tables.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{AnyUserData, Function, Lua, Result, Table, UserData, Value};
use tokio::sync::Mutex;

use super::container::Containers;
use super::state::ScriptState;
use crate::base::by_age::{ByAge, Rank, Ranked as _};
use crate::container::Container;
use crate::docker::{Snapshot, Snapshots};
use crate::policy::sandbox::Context;
use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::unlimited::Unlimited;
use crate::policy::world::Source;

pub fn module(lua: &Lua, context: &Rc<Context>, state: &Rc<ScriptState>) -> Result<Table> {
    let for_items = Rc::downgrade(state);
    let items = lua.create_function(move |lua, handle: AnyUserData| {
        let state = for_items.upgrade();
        let state = state.ok_or_else(|| Failure::raise("the script has ended"))?;
        let containers = handle.borrow::<Unread>()?.0.clone();
        state.tables()?.items(lua, &containers)
    })?;
    state.set_tables(Tables::new(lua, context, items)?);
    let module = lua.create_table()?;
    let for_watch = (Rc::clone(context), Rc::clone(state));
    module.set(
        "watch",
        lua.create_function(move |lua, ()| watch(lua, &for_watch.0, &for_watch.1))?,
    )?;
    let for_list = (Rc::clone(context), Rc::clone(state));
    module.set(
        "containers",
        lua.create_async_function(move |lua, ()| {
            let (context, state) = for_list.clone();
            async move {
                context.may_wait("docker.containers")?;
                let source = state.source.borrow().clone();
                let snapshot = match source {
                    Source::Live(mut snapshots) => newest(&mut snapshots).await,
                    Source::Saved(snapshots) => snapshots.front().cloned(),
                };
                hand_over(&lua, &state, snapshot)
            }
        })?,
    )?;
    Ok(module)
}

/// An iterator over snapshots, for a generic `for`. It ends when the source does.
fn watch(lua: &Lua, context: &Rc<Context>, state: &Rc<ScriptState>) -> Result<Function> {
    context.may_wait("docker.watch")?;
    let mut source = state.source.borrow().clone();
    if let Source::Live(snapshots) = &mut source {
        // A snapshot that is there already is new to this loop.
        snapshots.mark_changed();
    }
    let source = Rc::new(Mutex::new(source));
    let (context, state) = (Rc::clone(context), Rc::clone(state));
    lua.create_async_function(move |lua, _: mlua::MultiValue| {
        let (context, state) = (Rc::clone(&context), Rc::clone(&state));
        let source = Rc::clone(&source);
        async move {
            context.may_wait("docker.watch")?;
            let snapshot = match &mut *source.lock().await {
                Source::Live(snapshots) => match snapshots.changed().await {
                    Ok(()) => newest(snapshots).await,
                    Err(_) => None,
                },
                Source::Saved(snapshots) => snapshots.pop_front(),
            };
            hand_over(&lua, &state, snapshot)
        }
    })
}

/// Waits for a snapshot; none if the source has ended.
async fn newest(snapshots: &mut Snapshots) -> Option<Arc<Snapshot>> {
    loop {
        if let Some(snapshot) = snapshots.borrow_and_update().clone() {
            return Some(snapshot);
        }
        snapshots.changed().await.ok()?;
    }
}

/// Makes a snapshot the script's newest. Returns its list; nil if the source has ended.
fn hand_over(lua: &Lua, state: &ScriptState, snapshot: Option<Arc<Snapshot>>) -> Result<Value> {
    let Some(snapshot) = snapshot else {
        return Ok(Value::Nil);
    };
    let list = state.tables()?.update(lua, &snapshot.containers)?;
    state.current.replace(Some(snapshot));
    Ok(Value::Table(list))
}

/// The tables of the containers of the newest snapshot.
pub struct Tables {
    makes: Containers,
    /// Makes a list that no script has looked at, and finds the [`Unread`] in it.
    unread: Function,
    unread_handle: Function,
    splice: Function,
    same: Unlimited,
    slim: Function,
    containers: ByAge<Container>,
    /// The ranks of these, the oldest first.
    ranks: Vec<Rank>,
    /// Their tables in the same order, in a list that no script sees.
    list: Table,
}

/// The containers of a list that no script has looked at.
struct Unread(ByAge<Container>);

impl UserData for Unread {}

impl Tables {
    /// `items` is [`Self::items`], as a function for Lua.
    fn new(lua: &Lua, context: &Rc<Context>, items: Function) -> Result<Self> {
        let unread: Function = context.tool("unread")?;
        Ok(Self {
            makes: Containers::new(lua, context)?,
            unread: unread.call(items)?,
            unread_handle: context.tool("unread_handle")?,
            splice: context.tool("splice")?,
            same: Unlimited::new(lua, context.tool("same")?)?,
            slim: context.tool("slim")?,
            containers: ByAge::default(),
            ranks: Vec::new(),
            list: lua.create_table()?,
        })
    }

    /// Takes a snapshot's containers. Returns a list of their tables, which the script may change. The list is filled
    /// when the script looks at it. A container that has not changed keeps its table.
    fn update(&mut self, lua: &Lua, containers: &ByAge<Container>) -> Result<Table> {
        let updated = self.replace(lua, containers);
        if updated.is_err() {
            // It may be half done.
            self.ranks.clear();
            self.containers = ByAge::default();
            self.list.clear()?;
        }
        updated?;
        let unread = Unread(containers.clone());
        self.unread.call(lua.create_userdata(unread)?)
    }

    /// The tables of a snapshot's containers, in a list that no script sees.
    fn items(&self, lua: &Lua, containers: &ByAge<Container>) -> Result<Table> {
        if self.are_newest(containers) {
            return Ok(self.list.clone());
        }
        let items = lua.create_table()?;
        for container in containers.iter() {
            let newest = self.containers.get(&container.rank());
            let table = match newest {
                Some(newest) if Arc::ptr_eq(newest, container) => self.of(container)?,
                _ => self.makes.table(lua, container)?,
            };
            items.raw_push(table)?;
        }
        Ok(items)
    }

    fn are_newest(&self, containers: &ByAge<Container>) -> bool {
        self.containers.changes(containers).is_empty()
    }

    fn replace(&mut self, lua: &Lua, containers: &ByAge<Container>) -> Result<()> {
        let changes = self.containers.changes(containers);
        // From the end, so that removing one does not move the next to be removed.
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

    /// The containers in a script's list, which may lack some of the snapshot.
    pub fn read(&self, lua: &Lua, list: &Table) -> Result<ByAge<Container>> {
        let unread: Option<AnyUserData> = self.unread_handle.call(list)?;
        if let Some(unread) = unread {
            let containers = unread.borrow::<Unread>()?.0.clone();
            if self.are_newest(&containers) {
                return Ok(containers);
            }
            return self.read_items(&self.items(lua, &containers)?);
        }
        // A metamethod may raise an error where none is expected.
        if list.metatable().is_none() && self.same.call((&self.list, list, self.ranks.len()))? {
            return Ok(self.containers.clone());
        }
        if list.pairs::<Value, Value>().count() != list.sequence_values::<Value>().count() {
            return Err(Failure::raise(
                "etcd.sync: the list of containers has holes, and the containers after a hole would be lost; \
                 build a new list instead",
            ));
        }
        self.read_items(list)
    }

    /// The containers whose tables are in a sequence.
    fn read_items(&self, list: &Table) -> Result<ByAge<Container>> {
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
                    "etcd.sync: item {} of the list is not a container of the newest snapshot",
                    index + 1
                ))
            })?;
            listed.insert(Arc::clone(container));
        }
        Ok(listed)
    }

    pub fn of(&self, container: &Container) -> Result<Table> {
        match self.ranks.binary_search(&container.rank()) {
            Ok(place) => self.list.raw_get(place + 1),
            Err(_) => Err(Failure::raise("a container has no table")),
        }
    }

    /// From now on it counts whether fields are made.
    pub fn begin_reads(&self) {
        self.makes.take_made();
    }

    /// Frees the fields of all containers, if any were made since [`Self::begin_reads`].
    pub fn slim_all(&self) -> Result<()> {
        if self.makes.take_made() {
            for table in self.list.sequence_values::<Table>() {
                self.slim(&table?)?;
            }
        }
        Ok(())
    }

    /// Frees the fields of a container's table that were made. They are made again when they are read.
    pub fn slim(&self, table: &Table) -> Result<()> {
        self.slim.call(table)
    }
}
