//! A policy of the registrar: a script in a sandbox with the modules of `api`. `register/run` and the commands load it.

use std::path::PathBuf;
use std::rc::Rc;

use mlua::{Function, Value};

use super::World;
use super::api;
use super::api::state::ScriptState;
use super::bundled::{DEFAULT, SCRIPTS};
use super::sandbox::failure::Failure;
use super::sandbox::{Sandbox, Setup};
use super::world::Source;

pub struct Script {
    sandbox: Sandbox,
    run: Function,
}

impl Script {
    /// Loads a policy. Its text has a second of processor time, and may not wait.
    pub fn load(world: World) -> Result<Self, Failure> {
        let setup = setup(&world);
        let script = setup.script.clone();
        let name = script.display();
        let sandbox = Sandbox::new(setup, api::modules(&Rc::new(ScriptState::new(world))))?;
        let policy = sandbox.load()?;
        let Some(Value::Table(policy)) = policy.front() else {
            let got = policy.front().map_or("nothing", Value::type_name);
            return Err(Failure::new(format!(
                "`{name}` returned {got} and not a policy; end it with `return register`"
            )));
        };
        let run = match policy.get::<Value>("run") {
            Ok(Value::Function(run)) => run,
            Ok(other) => {
                return Err(Failure::new(format!(
                    "`{name}` returned a table whose `run` is {} and not a function; \
                     begin with `local register = require \"register\"`",
                    other.type_name()
                )));
            }
            Err(error) => return Err(Failure::from_error(&error)),
        };
        Ok(Self { sandbox, run })
    }

    /// The policy's name and a digest of its text, for the log.
    pub fn version(&self) -> String {
        self.sandbox.version()
    }

    /// Runs the policy's `run`, which never ends if the source is live.
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
        runs_once: matches!(world.source, Source::Once(_)),
    }
}
