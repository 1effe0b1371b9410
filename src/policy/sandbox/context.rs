//! The sandbox as a module sees it: protected and timed calls of the script's functions, read-only tables, and whether a
//! call may wait at this moment.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::path::Path;
use std::rc::Rc;

use mlua::{FromLua, Function, IntoLuaMulti, Lua, MultiValue, Table, Value};
use sha2::{Digest as _, Sha256};

use super::Setup;
use super::failure::{Failure, blame};
use super::frozen::Frozen;
use super::names::Names;
use super::time_limit::TimeLimit;

/// The state that the modules of one sandbox share. It does not keep the Lua state alive.
pub struct Context {
    pub(super) setup: Setup,
    /// The names of the modules that were handed in.
    pub(super) modules: Vec<&'static str>,
    pub(super) names: Rc<Names>,
    pub(super) phase: Cell<Phase>,
    time: Rc<TimeLimit>,
    /// The functions that `prelude.lua` returns.
    prelude: Table,
    /// Calls a function so that its error comes back as a [`Failure`].
    protected: Function,
    frozen: Frozen,
    /// Of the texts of all scripts, in the order in which they were loaded.
    digest: RefCell<Sha256>,
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
        let names = Rc::new(Names::new(setup.policy));
        let prelude = prelude(lua, &time, &names)?;
        Ok(Self {
            modules,
            names,
            phase: Cell::new(Phase::Loading),
            time,
            protected: prelude.get("protected")?,
            frozen: Frozen::new(&prelude)?,
            prelude,
            digest: RefCell::default(),
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
        argument: Option<Table>,
        phase: Phase,
    ) -> Result<MultiValue, Failure> {
        let before = self.phase.replace(phase);
        let outer = self.time.begin();
        let function = Value::Function(function.clone());
        let arguments = [function].into_iter().chain(argument.map(Value::Table));
        let result = self.call_within(arguments.collect::<MultiValue>());
        self.time.end(outer);
        self.phase.set(before);
        result
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
        outcome(result).map(drop)
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

    /// Adds a script's text to the digest.
    pub(super) fn digest(&self, text: &[u8]) {
        self.digest.borrow_mut().update(text);
    }

    /// The main script and the first digits of the digest.
    pub(super) fn version(&self) -> String {
        let digest = self.digest.borrow().clone().finalize();
        let digits = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
        let digits: Vec<String> = digits.collect();
        format!("`{}`, sha256 {}", self.script().display(), digits.concat())
    }
}

/// The functions of `prelude.lua`.
fn prelude(lua: &Lua, time: &Rc<TimeLimit>, names: &Rc<Names>) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    let time = Rc::clone(time);
    host.set(
        "check_time",
        lua.create_function(move |_, ()| time.check())?,
    )?;
    let names = Rc::clone(names);
    host.set(
        "blame",
        lua.create_function(move |lua: &Lua, error: Value| Ok(blame(lua, &error, &names)))?,
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
