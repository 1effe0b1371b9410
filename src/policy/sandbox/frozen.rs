//! Read-only tables, so that one call of a policy function cannot change what the next one sees. `prelude.lua` makes
//! them; modules get them from the context.

use mlua::{Function, Lua, Result, Table, Value};

/// Makes read-only tables, and reads them.
#[derive(Clone)]
pub struct Frozen {
    freeze: Function,
    contents: Function,
    /// The metatable of lists that are lists in JSON even while they are empty.
    array: Table,
}

impl Frozen {
    pub(super) fn new(prelude: &Table) -> Result<Self> {
        Ok(Self {
            freeze: prelude.get("freeze")?,
            contents: prelude.get("contents")?,
            array: prelude.get("array")?,
        })
    }

    pub fn freeze(&self, contents: Table) -> Result<Table> {
        self.freeze.call(contents)
    }

    /// A value whose tables are read-only at every depth.
    pub fn freeze_deeply(&self, value: Value) -> Result<Value> {
        let Value::Table(table) = value else {
            return Ok(value);
        };
        for pair in table.pairs::<Value, Value>() {
            let (key, field) = pair?;
            if field.is_table() {
                table.raw_set(key, self.freeze_deeply(field)?)?;
            }
        }
        Ok(Value::Table(self.freeze(table)?))
    }

    /// The plain contents of a table, whether it is read-only or not.
    pub fn contents(&self, table: &Table) -> Result<Table> {
        self.contents.call(table)
    }

    pub fn mark_array(&self, list: &Table) -> Result<()> {
        list.set_metatable(Some(self.array.clone()))
    }

    pub fn is_array(&self, contents: &Table) -> bool {
        contents.metatable().as_ref() == Some(&self.array)
    }

    pub fn strings<'a>(
        &self,
        lua: &Lua,
        items: impl IntoIterator<Item = &'a String>,
    ) -> Result<Table> {
        let list = lua.create_sequence_from(items.into_iter().map(String::as_str))?;
        self.mark_array(&list)?;
        self.freeze(list)
    }

    pub fn map<'a>(
        &self,
        lua: &Lua,
        pairs: impl Iterator<Item = (&'a str, &'a Box<str>)>,
    ) -> Result<Table> {
        let pairs = pairs.map(|(name, value)| (name, &**value));
        self.freeze(lua.create_table_from(pairs)?)
    }
}
