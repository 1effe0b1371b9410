//! A policy's script in its sandbox, and the registrar's with the modules of `api`.

use std::path::PathBuf;
use std::rc::Rc;

use mlua::{Function, Value};

use super::World;
use super::api;
use super::api::state::ScriptState;
use super::bundled::{DEFAULT, SCRIPTS};
use super::driver::Role;
use super::sandbox::failure::Failure;
use super::sandbox::{Module, Sandbox, Setup};
use super::world::Source;
use crate::ops::condition::Condition;
use crate::ops::loads::Version;

/// The script of a policy of any role, ready to run.
pub struct Script {
    sandbox: Sandbox,
    run: Function,
}

impl Role for World {
    const SOURCE: &'static str = "docker.watch()";
    const KEPT: &'static str = "keys";

    fn load(&self) -> Result<Script, Failure> {
        let state = Rc::new(ScriptState::new(self.clone()));
        Script::load(setup(self), api::modules(&state))
    }

    fn condition(&self) -> &Condition {
        &self.condition
    }

    fn has_begun(&self) -> bool {
        self.wanted.borrow().is_some()
    }
}

impl Script {
    /// Loads a script with the modules of its role.
    pub(super) fn load(setup: Setup, modules: Vec<Module>) -> Result<Self, Failure> {
        let (script, policy_name) = (setup.script.clone(), setup.policy);
        let name = script.display();
        let sandbox = Sandbox::new(setup, modules)?;
        let policy = sandbox.load()?;
        let Some(Value::Table(policy)) = policy.front() else {
            let got = policy.front().map_or("nothing", Value::type_name);
            return Err(Failure::new(format!(
                "`{name}` returned {got} and not a policy; end it with `return {policy_name}`"
            )));
        };
        let run = match policy.get::<Value>("run") {
            Ok(Value::Function(run)) => run,
            Ok(other) => {
                return Err(Failure::new(format!(
                    "`{name}` returned a table whose `run` is {} and not a function; \
                     begin with `local {policy_name} = require \"{policy_name}\"`",
                    other.type_name()
                )));
            }
            Err(error) => return Err(Failure::from_error(&error)),
        };
        Ok(Self { sandbox, run })
    }

    /// The policy's name and a digest of its text, for the log.
    pub fn version(&self) -> Version {
        self.sandbox.version()
    }

    /// Runs the policy's `run`, which never ends if the source is live.
    ///
    /// # Errors
    ///
    /// If it fails. A site's script also fails if it takes longer than a second of processor time without waiting.
    pub async fn run(&self) -> Result<(), Failure> {
        self.sandbox.run(&self.run).await
    }
}

/// The sandbox of a policy.
pub fn setup(world: &World) -> Setup {
    Setup {
        script: world.script.clone().unwrap_or(PathBuf::from(DEFAULT)),
        bundled: &SCRIPTS,
        policy: DEFAULT,
        elsewhere: &[(
            "test",
            "the module `test` is available only in `docker-register test`",
        )],
        looks_above: false,
        runs_once: matches!(world.source, Source::Saved(_)),
    }
}
