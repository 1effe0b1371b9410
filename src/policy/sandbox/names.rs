//! The names of policy functions in messages, such as `register.service`.

use std::cell::RefCell;

use mlua::{Function, Table, Value};

/// The functions of the bundled policy, which have the same names for every site.
#[derive(Debug)]
pub struct Names {
    /// The name that scripts require the policy by.
    pub policy: &'static str,
    /// The tables that have them, in a list.
    tables: RefCell<Option<Table>>,
}

impl Names {
    pub fn new(policy: &'static str) -> Self {
        Self {
            policy,
            tables: RefCell::default(),
        }
    }

    /// Takes the tables from the policy, once it is loaded. It refuses unknown fields, so they are in its metatable.
    pub fn learn(&self, policy: &Table) {
        let tables = policy
            .metatable()
            .and_then(|metatable| metatable.get("decisions").ok());
        self.tables.replace(tables);
    }

    pub fn of(&self, function: &Function) -> Option<String> {
        let wanted = function.to_pointer();
        let name_in = |table: Table| {
            table
                .pairs::<String, Value>()
                .filter_map(Result::ok)
                .find(|(_, value)| matches!(value, Value::Function(function) if function.to_pointer() == wanted))
                .map(|(name, _)| format!("{}.{name}", self.policy))
        };
        let tables = self.tables.borrow();
        let tables = tables.as_ref()?.sequence_values::<Table>();
        tables.filter_map(Result::ok).find_map(name_in)
    }
}
