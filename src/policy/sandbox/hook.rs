//! The hook that Lua calls while a script runs. It checks the time limit, and makes Lua about half as fast, so bundled
//! scripts, whose loops end, run without it. While the line is looked for at which a script runs out of memory, it also
//! notes each line: Lua does not say where that was.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::debug::DebugEvent;
use mlua::{HookTriggers, Lua, Result, VmState};

use super::failure::{Place, place};
use super::names::Names;
use super::time_limit::TimeLimit;

/// How many instructions run between two looks at the time: some tens of microseconds.
const INSTRUCTIONS: u32 = 10_000;

pub struct Hook {
    time: Rc<TimeLimit>,
    /// Whether the script has a time limit.
    is_limited: bool,
    names: Names,
    /// The last line of a script, while lines are noted.
    line: RefCell<Option<Place>>,
}

impl Hook {
    /// Sets the hook for the current thread and for later ones, if the script has a time limit.
    pub fn set(
        lua: &Lua,
        time: &Rc<TimeLimit>,
        names: &Names,
        is_limited: bool,
    ) -> Result<Rc<Self>> {
        let hook = Rc::new(Self {
            time: Rc::clone(time),
            is_limited,
            names: names.clone(),
            line: RefCell::default(),
        });
        hook.stop_noting(lua)?;
        Ok(hook)
    }

    /// The last line of a script that ran in `work`.
    pub fn last_line(self: &Rc<Self>, lua: &Lua, work: impl FnOnce()) -> Option<Place> {
        self.trigger(lua, HookTriggers::new().every_line()).ok()?;
        work();
        self.stop_noting(lua).ok()?;
        self.line.take()
    }

    fn stop_noting(self: &Rc<Self>, lua: &Lua) -> Result<()> {
        if self.is_limited {
            return self.trigger(lua, HookTriggers::new());
        }
        lua.remove_global_hook();
        Ok(())
    }

    fn trigger(self: &Rc<Self>, lua: &Lua, triggers: HookTriggers) -> Result<()> {
        let hook = Rc::clone(self);
        let triggers = triggers.every_nth_instruction(INSTRUCTIONS);
        lua.set_global_hook(triggers, move |_, frame| {
            if frame.event() != DebugEvent::Line {
                hook.time.check()?;
            } else if let Some(line) = place(frame, &hook.names) {
                hook.line.replace(Some(line));
            }
            Ok(VmState::Continue)
        })
    }
}
