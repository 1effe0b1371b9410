//! The sandbox as a module sees it: protected and timed calls of the script's functions, read-only tables, and whether a
//! call may wait at this moment.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::path::Path;
use std::rc::Rc;
use std::task::{self, Poll, Waker};

use mlua::{FromLua, Function, IntoLua as _, IntoLuaMulti, Lua, MultiValue, Table, Value, WeakLua};
use sha2::{Digest as _, Sha256};

use super::Setup;
use super::failure::{Failure, Place, blame};
use super::frozen::Frozen;
use super::hook::Hook;
use super::names::Names;
use super::time_limit::TimeLimit;
use crate::ops::loads::Version;

/// How often a function that is run through may wait.
const MOST_WAITS: usize = 10_000;

/// The state that the modules of one sandbox share. It does not keep the Lua state alive.
pub struct Context {
    pub(super) setup: Setup,
    /// The names of the modules that were handed in.
    pub(super) modules: Vec<&'static str>,
    pub(super) names: Names,
    pub(super) phase: Cell<Phase>,
    time: Rc<TimeLimit>,
    hook: Rc<Hook>,
    lua: WeakLua,
    /// The functions that `prelude.lua` returns.
    prelude: Table,
    /// Calls a function so that its error comes back as a [`Failure`].
    protected: Function,
    frozen: Frozen,
    /// Of the texts of all scripts, in the order in which they were loaded.
    digest: RefCell<Sha256>,
    texts: RefCell<Vec<String>>,
}

/// The part of the script that runs. Some calls are not allowed at all times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its text runs, and defines functions.
    Loading,
    /// Its `run` runs, which may wait.
    Running,
    /// A policy function runs, which only decides.
    Policy,
}

impl Context {
    pub(super) fn new(
        lua: &Lua,
        setup: Setup,
        modules: Vec<&'static str>,
        time: Rc<TimeLimit>,
    ) -> mlua::Result<Self> {
        let names = Names::new(lua)?;
        let hook = Hook::set(lua, &time, &names, !setup.is_bundled())?;
        let prelude = prelude(lua, &time, &names)?;
        Ok(Self {
            modules,
            names,
            phase: Cell::new(Phase::Loading),
            time,
            hook,
            lua: lua.weak(),
            protected: prelude.get("protected")?,
            frozen: Frozen::new(&prelude)?,
            prelude,
            digest: RefCell::default(),
            texts: RefCell::default(),
            setup,
        })
    }

    /// The main script, as it was named.
    pub fn script(&self) -> &Path {
        &self.setup.script
    }

    pub fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    /// A function of `prelude.lua`.
    pub fn tool<T: FromLua>(&self, name: &str) -> mlua::Result<T> {
        self.prelude.get(name)
    }

    /// The name of a policy function, such as `register.service`.
    pub fn name_of(&self, function: &Function) -> Option<String> {
        self.names.of(function)
    }

    /// Calls a function of the script with a time limit of its own.
    pub fn call(
        &self,
        function: &Function,
        arguments: impl IntoLuaMulti,
        phase: Phase,
    ) -> Result<MultiValue, Failure> {
        let lua = self.lua.try_upgrade();
        let lua = lua.ok_or_else(|| Failure::new("the script has ended"))?;
        let arguments = arguments.into_lua_multi(&lua);
        let arguments = arguments.map_err(|error| Failure::from_error(&error))?;
        let before = self.phase.replace(phase);
        let outer = self.time.begin();
        let result = self.call_within((function, arguments.clone()));
        let result = result.map_err(|failure| {
            if failure.lacks_line_of_memory() {
                self.time.begin();
                let place = self.line_of_memory(&lua, function, arguments);
                failure.or_at(|| place)
            } else {
                failure
            }
        });
        self.time.end(outer);
        self.phase.set(before);
        result
    }

    /// The line at which a function that runs out of memory does so: it runs once more, and its lines are noted.
    fn line_of_memory(
        &self,
        lua: &Lua,
        function: &Function,
        arguments: MultiValue,
    ) -> Option<Place> {
        let mut again = None;
        let line = self.hook.last_line(lua, || {
            again = self.call_within((function, arguments)).err();
        });
        line.filter(|_| again.is_some_and(|failure| failure.lacks_line_of_memory()))
    }

    /// Calls a function, the first of the arguments, in the time and the phase of the call around it. A failure names
    /// the line in the function, and not that of the call around it.
    pub fn call_within(&self, arguments: impl IntoLuaMulti) -> Result<MultiValue, Failure> {
        outcome(self.protected.call(arguments))
    }

    /// Calls a function that may wait. Between two waits it has the time of one call: a script that never waits would
    /// leave signals unanswered.
    pub(super) async fn run(&self, function: &Function) -> Result<(), Failure> {
        self.phase.set(Phase::Running);
        let run = self.protected.call_async::<MultiValue>(function);
        tokio::pin!(run);
        let result = poll_fn(|context| {
            self.time.begin();
            let polled = run.as_mut().poll(context);
            self.time.end(None);
            polled
        })
        .await;
        let at_function = || Failure::of(function, self.name_of(function), "").place;
        let result = outcome(result).map(drop);
        result.map_err(|failure| failure.or_at(at_function))
    }

    /// Calls a function that may wait, where nothing that it waits for takes long, within the call around it.
    pub fn run_through(&self, function: &Function) -> Result<(), Failure> {
        let before = self.phase.replace(Phase::Running);
        let run = self.protected.call_async::<MultiValue>(function);
        tokio::pin!(run);
        let mut waker = task::Context::from_waker(Waker::noop());
        let mut result = Err(Failure::new("its `run` waits and never goes on"));
        for _ in 0..MOST_WAITS {
            let outer = self.time.begin();
            let polled = run.as_mut().poll(&mut waker);
            self.time.end(outer);
            if let Poll::Ready(values) = polled {
                result = outcome(values).map(drop);
                break;
            }
        }
        self.phase.set(before);
        result
    }

    /// Refuses a call that waits, except in `run`.
    pub fn may_wait(&self, what: &str) -> mlua::Result<()> {
        match self.phase.get() {
            Phase::Running => Ok(()),
            Phase::Loading => Err(Failure::raise(format!(
                "`{what}` waits, so it cannot be called while the script loads; call it in `run`"
            ))),
            Phase::Policy => Err(Failure::raise(format!(
                "`{what}` waits, so it cannot be called in a policy function, which only says what should be; \
                 call it in `run`"
            ))),
        }
    }

    /// Takes note of the text of a script that is loaded.
    pub(super) fn add_text(&self, text: &[u8]) {
        self.digest.borrow_mut().update(text);
        let text = String::from_utf8_lossy(text).into_owned();
        self.texts.borrow_mut().push(text);
    }

    /// Whether a script has a name as a field (`x.name`) or as a text of its own (`"name"`), so that it may read it yet.
    pub fn mentions(&self, name: &str) -> bool {
        self.texts.borrow().iter().any(|text| mentions(text, name))
    }

    /// The main script and the first digits of the digest.
    pub(super) fn version(&self) -> Version {
        let digest = self.digest.borrow().clone().finalize();
        let digits = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
        let digits: Vec<String> = digits.collect();
        Version {
            name: self.script().display().to_string(),
            digest: digits.concat(),
        }
    }
}

fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        let goes_on = after.is_some_and(|next| next.is_alphanumeric() || next == '_');
        let is_quoted = matches!(before, Some('"' | '\'')) && before == after;
        is_quoted || before == Some('.') && !goes_on
    })
}

/// The functions of `prelude.lua`.
fn prelude(lua: &Lua, time: &Rc<TimeLimit>, names: &Names) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    let time = Rc::clone(time);
    host.set(
        "check_time",
        lua.create_function(move |_, ()| time.check())?,
    )?;
    let for_blame = names.clone();
    host.set(
        "blame",
        lua.create_function(move |lua: &Lua, error: Value| {
            Ok(Value::Error(Box::new(mlua::Error::external(blame(
                lua, &error, &for_blame,
            )))))
        })?,
    )?;
    let names = names.clone();
    host.set(
        "told",
        lua.create_function(move |lua: &Lua, error: Value| match error {
            Value::Error(_) => blame(lua, &error, &names).told().into_lua(lua),
            other => Ok(other),
        })?,
    )?;
    // The `=` keeps its lines out of messages.
    lua.load(include_str!("prelude.lua"))
        .set_name("=prelude")
        .call(host)
}

/// The results of a protected call, which come after whether it went well.
fn outcome(result: mlua::Result<MultiValue>) -> Result<MultiValue, Failure> {
    let mut values = result.map_err(|error| Failure::from_error(&error))?;
    match values.pop_front() {
        Some(Value::Boolean(true)) => Ok(values),
        _ => Err(Failure::from_value(values.front().unwrap_or(&Value::Nil))),
    }
}
