//! Read-only tables, so that no policy can change what the next one sees. They are made in `prelude.lua`.

use mlua::{Function, Lua, Result, Table, Value};

/// Makes tables read-only, and looks into them.
#[derive(Clone)]
pub struct Frozen {
    freeze: Function,
    contents: Function,
}

impl Frozen {
    /// From the functions of the prelude.
    pub fn new(prelude: &Table) -> Result<Self> {
        Ok(Self {
            freeze: prelude.get("freeze")?,
            contents: prelude.get("contents")?,
        })
    }

    /// A read-only table of these contents.
    pub fn freeze(&self, contents: Table) -> Result<Table> {
        self.freeze.call(contents)
    }

    /// A read-only table of these contents, and so all tables within it.
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

    /// What a table holds, read-only or not.
    pub fn contents(&self, table: &Table) -> Result<Table> {
        self.contents.call(table)
    }

    /// A read-only list of strings.
    pub fn strings<'a>(
        &self,
        lua: &Lua,
        items: impl IntoIterator<Item = &'a String>,
    ) -> Result<Table> {
        self.freeze(lua.create_sequence_from(items.into_iter().map(String::as_str))?)
    }

    /// A read-only map of strings.
    pub fn map<'a>(
        &self,
        lua: &Lua,
        pairs: impl Iterator<Item = (&'a str, &'a Box<str>)>,
    ) -> Result<Table> {
        let pairs = pairs.map(|(name, value)| (name, &**value));
        self.freeze(lua.create_table_from(pairs)?)
    }
}
