//! The names of decisions in messages, such as `register.service`.

use mlua::{Function, Lua, Result, Table};

/// The names of the functions that are decisions, a site's own included.
#[derive(Debug, Clone)]
pub struct Names(Table);

impl Names {
    pub fn new(lua: &Lua) -> Result<Self> {
        lua.create_table().map(Self)
    }

    pub fn add(&self, function: &Function, name: &str) -> Result<()> {
        self.0.raw_set(function, name)
    }

    pub fn of(&self, function: &Function) -> Option<String> {
        self.0.raw_get(function).ok()?
    }
}
