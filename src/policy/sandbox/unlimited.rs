//! Work of `prelude.lua` that has no time limit, which makes it several times as fast. It is only for work whose time
//! no script can extend.

use mlua::{FromLuaMulti, Function, IntoLuaMulti, Lua, Result, Thread};

/// A coroutine without the instruction hook, which takes up its work again with each call.
pub struct Unlimited {
    work: Function,
    thread: Thread,
}

impl Unlimited {
    pub fn new(lua: &Lua, work: Function) -> Result<Self> {
        let thread = lua.create_thread(work.clone())?;
        thread.remove_hook();
        Ok(Self { work, thread })
    }

    pub fn call<R: FromLuaMulti>(&self, arguments: impl IntoLuaMulti) -> Result<R> {
        let result = self.thread.resume(arguments);
        if result.is_err() {
            // It ran out of memory, and a coroutine that has failed is dead.
            self.thread.reset(self.work.clone())?;
            self.thread.remove_hook();
        }
        result
    }
}
