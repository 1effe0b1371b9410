//! The state that the modules `docker` and `etcd` of one script share. Above all it holds the snapshot, from the call
//! that yields it to the call of `etcd.sync` that takes it.

use std::cell::{RefCell, RefMut};
use std::sync::Arc;

use mlua::Function;

use super::docker::Tables;
use crate::docker::Snapshot;
use crate::policy::World;
use crate::policy::sandbox::failure::Failure;
use crate::policy::verdicts::FunctionId;

/// The error for a call at a forbidden moment, such as in a finalizer.
const NOT_NOW: &str = "this cannot be called here";

/// The state that the modules of one script share.
pub struct ScriptState {
    pub world: World,
    /// The snapshot that the script has got and not yet given to `etcd.sync`.
    pub current: RefCell<Option<Arc<Snapshot>>>,
    /// The tables of the newest snapshot's containers.
    tables: RefCell<Option<Tables>>,
    /// The last function that was given to `etcd.sync`.
    function: RefCell<Option<(Function, FunctionId)>>,
}

impl ScriptState {
    pub fn new(world: World) -> Self {
        Self {
            world,
            current: RefCell::default(),
            tables: RefCell::default(),
            function: RefCell::default(),
        }
    }

    pub fn set_tables(&self, tables: Tables) {
        self.tables.replace(Some(tables));
    }

    pub fn tables(&self) -> mlua::Result<RefMut<'_, Tables>> {
        let tables = self.tables.try_borrow_mut().ok();
        tables
            .and_then(|tables| RefMut::filter_map(tables, Option::as_mut).ok())
            .ok_or_else(|| Failure::raise(NOT_NOW))
    }

    /// The id of a function. An address would not do: once a function is collected, another may get its address.
    pub fn id_of(&self, function: &Function) -> FunctionId {
        let mut last = self.function.borrow_mut();
        match &*last {
            Some((known, id)) if known == function => *id,
            _ => {
                let id = FunctionId::next();
                *last = Some((function.clone(), id));
                id
            }
        }
    }
}
