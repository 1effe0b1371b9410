//! The state that the modules `docker` and `etcd` of one script share. Above all it holds the snapshot, from the call
//! that yields it to the call of `etcd.sync` that takes it.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mlua::Function;

use super::docker::Tables;
use super::options::Given;
use crate::docker::Snapshot;
use crate::policy::World;
use crate::policy::sandbox::failure::Failure;
use crate::policy::verdicts::FunctionId;
use crate::policy::world::Source;
use crate::wanted::Wanted;

/// The error for a call at a forbidden moment, such as in a finalizer.
const NOT_NOW: &str = "this cannot be called here";

/// The state that the modules of one script share.
pub struct ScriptState {
    pub world: World,
    /// Where containers come from: the world's source, or that of a test.
    pub source: RefCell<Source>,
    pub given: Rc<Given>,
    /// In a test, the wanted state of each snapshot.
    pub recorded: RefCell<Option<Recorded>>,
    /// The snapshot that the script has got and not yet given to `etcd.sync`.
    pub current: RefCell<Option<Arc<Snapshot>>>,
    /// The tables of the newest snapshot's containers.
    tables: RefCell<Option<Tables>>,
    /// The functions that were given last, by the name of their parameter.
    functions: RefCell<HashMap<&'static str, (Function, FunctionId)>>,
}

/// Snapshots with their wanted states.
pub type Recorded = Vec<(Arc<Snapshot>, Arc<Wanted>)>;

impl ScriptState {
    pub fn new(world: World) -> Self {
        Self {
            source: world.source.clone().into(),
            given: Rc::new(Given::new(&world.options.set)),
            recorded: RefCell::default(),
            world,
            current: RefCell::default(),
            tables: RefCell::default(),
            functions: RefCell::default(),
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

    /// The id of a function, which changes when the script gives another one as this parameter. An address would not do:
    /// once a function is collected, another may get its address.
    pub fn id_of(&self, parameter: &'static str, function: &Function) -> FunctionId {
        let mut functions = self.functions.borrow_mut();
        match functions.get(parameter) {
            Some((known, id)) if known == function => *id,
            _ => {
                let id = FunctionId::next();
                functions.insert(parameter, (function.clone(), id));
                id
            }
        }
    }
}
