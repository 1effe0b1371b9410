//! The state that the modules of one reading script share: the services, from the call that yields them to the call of
//! `proxy.sync` that takes them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use mlua::Function;

use super::lists::Lists;
use super::tables::{ServiceTable, Tables};
use super::world::RoutingWorld;
use crate::policy::api::options::Given;
use crate::policy::verdicts::FunctionId;
use crate::routes::LeftOut;

pub struct RoutingState {
    pub world: RoutingWorld,
    pub given: Rc<Given>,
    /// The services that the script has got and not yet given to `proxy.sync`.
    pub current: RefCell<Option<Current>>,
    pub tables: RefCell<Tables>,
    /// The functions that were given last, by the name of their parameter.
    functions: RefCell<HashMap<&'static str, (Function, FunctionId)>>,
}

/// The services of one moment.
pub struct Current {
    pub services: Vec<Rc<ServiceTable>>,
    /// Their list is the last of these.
    pub lists: Rc<Lists>,
    pub left_out: Vec<LeftOut>,
    pub revision: i64,
}

impl RoutingState {
    pub fn new(world: RoutingWorld) -> Self {
        Self {
            given: Rc::new(Given::new(&world.options.set)),
            world,
            current: RefCell::default(),
            tables: RefCell::default(),
            functions: RefCell::default(),
        }
    }

    /// The id of a function, which changes when the script gives another one as this parameter.
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
