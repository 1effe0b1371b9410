//! `require`: each module once, whether it was handed in, is bundled, or is a file of the site's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use mlua::{Error, Function, Lua, Result, Table, Value};

use super::context::Context;
use super::failure::Failure;
use super::scripts::find;

/// The function `require`, with the modules that were handed in.
pub fn require(
    lua: &Lua,
    context: &Rc<Context>,
    modules: HashMap<String, Table>,
) -> Result<Function> {
    let modules = modules
        .into_iter()
        .map(|(name, module)| (name, Value::Table(module)));
    let loaded: RefCell<HashMap<String, Value>> = RefCell::new(modules.collect());
    let loading: RefCell<Vec<String>> = RefCell::default();
    let context = Rc::clone(context);
    lua.create_function(move |lua, name: String| {
        if let Some(module) = loaded.borrow().get(&name) {
            return Ok(module.clone());
        }
        if loading.borrow().contains(&name) {
            let circle = loading.borrow().join("` requires `");
            return Err(Failure::raise(format!(
                "`{circle}` requires `{name}`: they go in a circle"
            )));
        }
        let chunk = find(lua, &context, &name)?;
        loading.borrow_mut().push(name.clone());
        let values = context.call_within(chunk);
        loading.borrow_mut().pop();
        // As Lua's own `require` returns true for a module that returns nothing.
        let module = values
            .map_err(Error::external)?
            .pop_front()
            .filter(|value| !value.is_nil())
            .unwrap_or(Value::Boolean(true));
        loaded.borrow_mut().insert(name, module.clone());
        Ok(module)
    })
}
