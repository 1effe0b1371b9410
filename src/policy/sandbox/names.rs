//! The names of policy functions in messages, such as `register.service`.

use std::cell::RefCell;

use mlua::{Function, Table, Value};

/// The functions of the bundled policy, which have the same names for every site.
#[derive(Debug)]
pub struct Names {
    /// The name that scripts require the policy by.
    pub policy: &'static str,
    functions: RefCell<Option<Table>>,
}

impl Names {
    pub fn new(policy: &'static str) -> Self {
        Self {
            policy,
            functions: RefCell::default(),
        }
    }

    /// Takes the functions from the policy's table, once it is loaded.
    pub fn learn(&self, policy: &Table) {
        // The table refuses unknown fields, so it keeps its functions behind its metatable.
        let functions = policy
            .metatable()
            .and_then(|metatable| metatable.get("__index").ok());
        self.functions.replace(functions);
    }

    pub fn of(&self, function: &Function) -> Option<String> {
        let wanted = function.to_pointer();
        self.functions
            .borrow()
            .as_ref()?
            .pairs::<String, Value>()
            .filter_map(Result::ok)
            .find(|(_, value)| matches!(value, Value::Function(function) if function.to_pointer() == wanted))
            .map(|(name, _)| format!("{}.{name}", self.policy))
    }
}
