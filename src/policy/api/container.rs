//! A container as a policy gets it: a read-only table. Its fields, and those of the records in it, are the rows of
//! `container/fields.rs`; this file makes Lua values of them, each when it is first read.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{AnyUserData, Function, Lua, Result, Table, UserData, Value};

use super::json;
use crate::container::fields::{self, Record};
use crate::container::{Binding, Container, Image, Network, Port};
use crate::policy::sandbox::Context;
use crate::policy::sandbox::failure::Failure;

/// Makes the tables of containers.
#[derive(Clone)]
pub struct Containers {
    /// Makes the table of a container from its handle.
    make: Function,
    /// Finds the handle in a table.
    handle: Function,
    /// Whether a field was made.
    any_made: Rc<Cell<bool>>,
}

/// Makes the values of fields.
struct Values {
    context: Rc<Context>,
    // The metatables of the records.
    image: Table,
    port: Table,
    binding: Table,
    network: Table,
}

/// The container behind a table.
struct Handle(Arc<Container>);

impl UserData for Handle {}

impl Containers {
    pub fn new(lua: &Lua, context: &Rc<Context>) -> Result<Self> {
        let record: Function = context.tool("record")?;
        let values = Values {
            context: Rc::clone(context),
            image: record.call((Image::KIND, names::<Image>()))?,
            port: record.call((Port::KIND, names::<Port>()))?,
            binding: record.call((Binding::KIND, names::<Binding>()))?,
            network: record.call((Network::KIND, names::<Network>()))?,
        };
        let any_made = Rc::new(Cell::new(false));
        let is_made = Rc::clone(&any_made);
        let make = lua.create_function(move |lua, (handle, place): (AnyUserData, usize)| {
            is_made.set(true);
            // Places begin at 1 in Lua.
            let field = Container::FIELDS.get(place.wrapping_sub(1));
            let container = Arc::clone(&handle.borrow::<Handle>()?.0);
            field.map_or(Ok(Value::Nil), |field| {
                values.value(lua, (field.get)(&container))
            })
        })?;
        let lazy: Function = context.tool("lazy")?;
        Ok(Self {
            make: lazy.call((Container::KIND, names::<Container>(), make))?,
            handle: context.tool("handle")?,
            any_made,
        })
    }

    /// Whether a field was made since the last call.
    pub fn take_made(&self) -> bool {
        self.any_made.replace(false)
    }

    /// The container behind a table; none if it is no container's.
    pub fn container(&self, table: &Table) -> Result<Option<Arc<Container>>> {
        let handle: Option<AnyUserData> = self.handle.call(table)?;
        let handle = handle.map(|handle| Ok(Arc::clone(&handle.borrow::<Handle>()?.0)));
        handle.transpose()
    }

    pub fn table(&self, lua: &Lua, container: &Arc<Container>) -> Result<Table> {
        self.make
            .call(lua.create_userdata(Handle(Arc::clone(container)))?)
    }
}

fn names<R: Record>() -> Vec<&'static str> {
    R::FIELDS.iter().map(|field| field.name).collect()
}

impl Values {
    fn value(&self, lua: &Lua, value: fields::Value) -> Result<Value> {
        use fields::Value as Field;
        let frozen = self.context.frozen();
        Ok(match value {
            Field::Missing => Value::Nil,
            Field::Text(text) => Value::String(lua.create_string(text)?),
            Field::Number(number) => Value::Integer(number),
            Field::Flag(flag) => Value::Boolean(flag),
            Field::Texts(texts) => Value::Table(frozen.strings(lua, texts)?),
            Field::TextMap(map) => Value::Table(frozen.map(lua, map.iter())?),
            Field::Image(image) => self.record(lua, &self.image, image)?,
            Field::Ports(ports) => self.list(lua, &self.port, ports)?,
            Field::Bindings(bindings) => self.list(lua, &self.binding, bindings)?,
            Field::Networks(networks) => {
                let table = lua.create_table()?;
                for (name, network) in networks.iter() {
                    table.raw_set(name, self.record(lua, &self.network, network)?)?;
                }
                Value::Table(frozen.freeze(table)?)
            }
            Field::Inspect(inspect) => {
                let object = inspect
                    .object()
                    .map_err(|error| Failure::raise(format!("cannot read `inspect`: {error}")))?;
                frozen.freeze_deeply(json::to_lua(lua, frozen, &object, &Value::Nil)?)?
            }
        })
    }

    fn record<R: Record>(&self, lua: &Lua, metatable: &Table, record: &R) -> Result<Value> {
        let table = lua.create_table_with_capacity(0, R::FIELDS.len())?;
        for field in R::FIELDS {
            table.raw_set(field.name, self.value(lua, (field.get)(record))?)?;
        }
        table.set_metatable(Some(metatable.clone()))?;
        Ok(Value::Table(self.context.frozen().freeze(table)?))
    }

    fn list<R: Record>(&self, lua: &Lua, metatable: &Table, records: &[R]) -> Result<Value> {
        let list = lua.create_table_with_capacity(records.len(), 0)?;
        for record in records {
            list.raw_push(self.record(lua, metatable, record)?)?;
        }
        let frozen = self.context.frozen();
        frozen.mark_array(&list)?;
        Ok(Value::Table(frozen.freeze(list)?))
    }
}
