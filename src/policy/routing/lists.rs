//! Lists of tables for scripts. They cost little while most of their items stay the same.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Function, Lua, Result, Table, Value};

use crate::policy::sandbox::Context;
use crate::policy::sandbox::unlimited::Unlimited;

/// Makes lists, and recognises them.
pub struct Lists {
    copy: Function,
    same: Unlimited,
    last: RefCell<Last>,
}

/// The last list. No script sees its table.
struct Last {
    items: Vec<Rc<Table>>,
    table: Table,
}

impl Lists {
    pub fn new(lua: &Lua, context: &Context) -> Result<Self> {
        Ok(Self {
            copy: context.tool("copy")?,
            same: Unlimited::new(lua, context.tool("same")?)?,
            last: RefCell::new(Last {
                items: Vec::new(),
                table: lua.create_table()?,
            }),
        })
    }

    /// A list of these tables, which the script may change. Another `Rc` counts as another table.
    pub fn list(&self, lua: &Lua, items: Vec<Rc<Table>>) -> Result<Table> {
        let mut last = self.last.borrow_mut();
        let length = items.len();
        let followed = last.follow(items);
        if followed.is_err() {
            // It may be half done.
            last.items.clear();
            last.table.clear()?;
        }
        followed?;
        let copy = lua.create_table_with_capacity(length, 0)?;
        self.copy.call::<()>((&last.table, &copy, length))?;
        Ok(copy)
    }

    /// Whether a script's list has the items of the last list.
    pub fn is_last(&self, given: &Table) -> Result<bool> {
        let last = self.last.borrow();
        // A metamethod may raise an error where none is expected.
        if given.metatable().is_some() {
            return Ok(false);
        }
        self.same.call((&last.table, given, last.items.len()))
    }
}

impl Last {
    fn follow(&mut self, tables: Vec<Rc<Table>>) -> Result<()> {
        for (place, table) in tables.iter().enumerate() {
            let known = self.items.get(place);
            if !known.is_some_and(|known| Rc::ptr_eq(known, table)) {
                self.table.raw_set(place + 1, &**table)?;
            }
        }
        // From the end, so that it stays a sequence.
        for place in (tables.len()..self.items.len()).rev() {
            self.table.raw_set(place + 1, Value::Nil)?;
        }
        self.items = tables;
        Ok(())
    }
}
