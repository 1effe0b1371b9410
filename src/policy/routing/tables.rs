//! The Lua tables of services. They are read-only, and a table stays the same while what it shows does.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Lua, LuaString, Result, Table, Value};

use crate::policy::sandbox::failure::Failure;
use crate::policy::sandbox::frozen::Frozen;
use crate::routes::{Listener, Member, Service, ServiceId};

/// The tables of the services of the last list.
#[derive(Default)]
pub struct Tables {
    services: HashMap<ServiceId, Rc<ServiceTable>>,
}

/// A service with its table.
pub struct ServiceTable {
    pub service: Arc<Service>,
    pub table: Rc<Table>,
    /// The listener of the last sync, and the table with it.
    listened: RefCell<Option<(Arc<Listener>, Rc<Table>)>>,
}

impl Tables {
    /// The tables of these services, in their order. Those of all others are dropped.
    pub fn update(
        &mut self,
        lua: &Lua,
        frozen: &Frozen,
        services: &[Arc<Service>],
    ) -> Result<Vec<Rc<ServiceTable>>> {
        let mut tables = Vec::with_capacity(services.len());
        for service in services {
            let known = self.services.get(&service.id);
            if let Some(known) = known.filter(|known| known.service == *service) {
                tables.push(Rc::clone(known));
            } else {
                let table = Rc::new(ServiceTable::new(lua, frozen, service)?);
                self.services.insert(service.id.clone(), Rc::clone(&table));
                tables.push(table);
            }
        }
        if self.services.len() > services.len() {
            let ids: HashSet<&ServiceId> = services.iter().map(|service| &service.id).collect();
            self.services.retain(|id, _| ids.contains(id));
        }
        Ok(tables)
    }
}

impl ServiceTable {
    fn new(lua: &Lua, frozen: &Frozen, service: &Arc<Service>) -> Result<Self> {
        let table = fields_of(lua, service)?;
        let Value::Table(table) = frozen.freeze_deeply(Value::Table(table))? else {
            return Err(Failure::raise("a service has no table"));
        };
        Ok(Self {
            service: Arc::clone(service),
            table: Rc::new(table),
            listened: RefCell::default(),
        })
    }

    /// The table with a listener.
    pub fn with_listener(
        &self,
        lua: &Lua,
        frozen: &Frozen,
        listener: &Arc<Listener>,
    ) -> Result<Rc<Table>> {
        if let Some((known, table)) = &*self.listened.borrow()
            && known == listener
        {
            return Ok(Rc::clone(table));
        }
        let table = Rc::new(with_listener(lua, frozen, &self.table, listener)?);
        let known = (Arc::clone(listener), Rc::clone(&table));
        self.listened.replace(Some(known));
        Ok(table)
    }
}

/// A copy of a service's table, with a listener.
pub fn with_listener(
    lua: &Lua,
    frozen: &Frozen,
    table: &Table,
    listener: &Listener,
) -> Result<Table> {
    let addresses =
        |all: &[SocketAddr]| lua.create_sequence_from(all.iter().map(ToString::to_string));
    let mut last: Option<(Arc<str>, LuaString)> = None;
    let servers = listener.servers.iter().map(|server| {
        let options = match &last {
            Some((known, options)) if Arc::ptr_eq(known, &server.options) => options.clone(),
            _ => lua.create_string(&*server.options)?,
        };
        last = Some((Arc::clone(&server.options), options.clone()));
        let table = lua.create_table()?;
        table.raw_set("name", &*server.name)?;
        table.raw_set("address", server.address.to_string())?;
        table.raw_set("options", options)?;
        Ok(table)
    });
    let fields = lua.create_table()?;
    fields.raw_set("listen", addresses(&listener.listen)?)?;
    fields.raw_set("shared", addresses(&listener.shared)?)?;
    let servers = servers.collect::<Result<Vec<Table>>>()?;
    fields.raw_set("servers", lua.create_sequence_from(servers)?)?;
    let service = lua.create_table()?;
    for field in frozen.contents(table)?.pairs::<Value, Value>() {
        let (name, value) = field?;
        service.raw_set(name, value)?;
    }
    service.raw_set("listener", frozen.freeze_deeply(Value::Table(fields))?)?;
    frozen.freeze(service)
}

/// A new table with the fields of a service.
fn fields_of(lua: &Lua, service: &Service) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("name", &*service.id.name)?;
    table.raw_set("index", service.id.index)?;
    table.raw_set("port", service.port)?;
    table.raw_set("protocol", service.protocol.name())?;
    table.raw_set("created", service.created)?;
    table.raw_set("revision", service.revision)?;
    let attributes = service.attributes.iter();
    let attributes = attributes.map(|(name, value)| (&**name, &**value));
    table.raw_set("attributes", lua.create_table_from(attributes)?)?;
    let members = service.members.iter().map(|member| member_of(lua, member));
    let members = members.collect::<Result<Vec<Table>>>()?;
    table.raw_set("members", lua.create_sequence_from(members)?)?;
    Ok(table)
}

fn member_of(lua: &Lua, member: &Member) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("name", &*member.name)?;
    table.raw_set("host", &*member.host)?;
    table.raw_set("port", member.port)?;
    table.raw_set("address", &*member.address)?;
    table.raw_set("created", member.created)?;
    Ok(table)
}
