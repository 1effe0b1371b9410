//! The policy: one Lua state, what it may call, and the protected, bounded calls into it.

mod api;
mod sandbox;
#[cfg(test)]
mod tests;
mod verdicts;

use std::cell::{Cell, RefCell, RefMut};
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, Lua, MultiValue, Table, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, watch};

use crate::docker::{Snapshot, Snapshots};
use crate::ops::condition::Condition;
use crate::ops::counter::Counter;
use crate::store::etcd::Connection;
use crate::wanted::Wanted;

use api::docker;
pub use api::test::{Tests, test_file};
use sandbox::clock::time_taken;
pub use sandbox::failure::Failure;
use verdicts::Mapper;
pub use verdicts::{ContainerView, Verdicts};

/// How much of the processor's time one call of a policy function, or the loading of a script, may take.
const TIME_LIMIT: Duration = Duration::from_secs(1);
/// What a call is told that took longer.
const TOO_LONG: &str = "it took longer than a second, and was stopped";

/// What a script is told that calls something at a moment when nobody should, such as in a finalizer.
const NOT_NOW: &str = "this cannot be called here";

/// Where containers come from.
#[derive(Clone)]
pub enum Source {
    /// From a running daemon, for ever.
    Live(Snapshots),
    /// This snapshot and no other.
    Once(Arc<Snapshot>),
}

/// What a policy reads in `options`.
#[derive(Debug, Clone)]
pub struct Options {
    /// What every key begins with, without a slash at its end.
    pub prefix: String,
    /// The TTL of entries that name none, in seconds.
    pub ttl: u32,
    /// The address under which others reach this host.
    pub host_ip: String,
    /// What tells several registrars of one Docker daemon apart.
    pub instance: String,
    /// What the user set besides.
    pub set: Vec<(String, String)>,
}

/// What is logged of the policy's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Failures, and what is left out.
    All,
    /// Failures; what is left out at level debug.
    Failures,
    /// Nothing: the caller looks into the verdicts afterwards.
    Nothing,
}

/// What a script works with.
#[derive(Clone)]
pub struct World {
    /// The policy: a file, or the name of a bundled one; the default one if none.
    pub path: Option<PathBuf>,
    /// What it reads in `options`.
    pub options: Options,
    /// Where containers come from.
    pub source: Source,
    /// What it reads etcd with.
    pub reader: Rc<Mutex<Connection>>,
    /// Where the wanted state goes.
    pub wanted: watch::Sender<Option<Arc<Wanted>>>,
    /// What is logged of the policy's calls.
    pub report: Report,
    /// What is known of each container from earlier calls; it outlives a script.
    pub verdicts: Rc<RefCell<Verdicts>>,
    /// Whether its `run` is at work.
    pub condition: Condition,
    /// Counts the calls that failed for a container.
    pub errors: Counter,
}

/// A loaded policy.
pub struct Script {
    /// Its functions do not keep the state alive.
    _lua: Lua,
    host: Rc<Host>,
    run: Function,
}

/// What the bindings of one script share.
struct Host {
    world: World,
    phase: Cell<Phase>,
    /// By [`time_taken`].
    deadline: Cell<Option<Duration>>,
    /// The snapshot that the script holds and has not handed to `etcd.sync` yet.
    current: RefCell<Option<Arc<Snapshot>>>,
    /// The tables of the newest snapshot's containers.
    tables: RefCell<Option<docker::Tables>>,
    /// The function that was last given to `etcd.sync`, and its number.
    mapper: RefCell<Option<(Function, Mapper)>>,
    /// Runs a function so that its error comes back as a [`Failure`].
    protected: RefCell<Option<Function>>,
    /// The bundled policy's functions, which have names of ours in messages.
    decisions: RefCell<Option<Table>>,
    /// All texts of scripts that were loaded, in their order.
    digest: RefCell<Sha256>,
    /// What the tests came to; none in a policy.
    tests: RefCell<Option<Tests>>,
}

/// What the script is doing, for calls that are not allowed at all times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Running,
    Policy,
}

impl Script {
    /// Loads a policy. It is given a second, and may not wait for anything yet.
    pub fn load(world: World) -> Result<Self, Failure> {
        let path = world.path.clone().unwrap_or(sandbox::DEFAULT.into());
        let host = Host::new(world, None);
        let lua = sandbox::state(&host).map_err(|error| Failure::from_error(&error))?;
        let policy = sandbox::run_main(&lua, &host, &path)?;
        let name = path.display();
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
        Ok(Self {
            _lua: lua,
            host,
            run,
        })
    }

    /// Which policy it is: the file or the bundled name, and a digest of all its text.
    pub fn version(&self) -> String {
        let digest = self.host.digest.borrow().clone().finalize();
        let digest: Vec<String> = digest
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let digest = digest.concat();
        let path = self.host.world.path.as_deref();
        let path = path.unwrap_or(Path::new(sandbox::DEFAULT));
        format!("`{}`, sha256 {digest}", path.display())
    }

    /// Runs the policy's `run`, which for a live source is meant never to end.
    pub async fn run(&self) -> Result<(), Failure> {
        self.host.phase.set(Phase::Running);
        let protected = self
            .host
            .protected()
            .map_err(|error| Failure::from_error(&error))?;
        let run = protected.call_async::<MultiValue>(&self.run);
        tokio::pin!(run);
        // What does not wait for anything for so long never will, and would leave signals unanswered.
        let result = poll_fn(|context| {
            self.host.deadline.set(Some(time_taken() + TIME_LIMIT));
            let polled = run.as_mut().poll(context);
            self.host.deadline.set(None);
            polled
        })
        .await;
        outcome(result).map(drop)
    }
}

impl Host {
    fn new(world: World, tests: Option<Tests>) -> Rc<Self> {
        Rc::new(Self {
            world,
            phase: Cell::new(Phase::Loading),
            deadline: Cell::new(None),
            current: RefCell::new(None),
            tables: RefCell::new(None),
            mapper: RefCell::new(None),
            protected: RefCell::new(None),
            decisions: RefCell::new(None),
            digest: RefCell::default(),
            tests: RefCell::new(tests),
        })
    }

    /// Calls a function of the script, protected and bounded in time.
    fn call(
        &self,
        function: &Function,
        argument: Option<Table>,
        phase: Phase,
    ) -> Result<MultiValue, Failure> {
        let protected = self
            .protected()
            .map_err(|error| Failure::from_error(&error))?;
        let before = self.phase.replace(phase);
        let outer = self.deadline.replace(Some(time_taken() + TIME_LIMIT));
        let function = Value::Function(function.clone());
        let arguments = [function].into_iter().chain(argument.map(Value::Table));
        let result = protected.call(arguments.collect::<MultiValue>());
        // The time of this call is not taken from the caller's.
        self.deadline.set(outer.map(|_| time_taken() + TIME_LIMIT));
        self.phase.set(before);
        outcome(result)
    }

    /// The number of a function, which no other ever has: its address may be another's once it is collected.
    fn mapper(&self, function: &Function) -> Mapper {
        let mut last = self.mapper.borrow_mut();
        match &*last {
            Some((known, mapper)) if known == function => *mapper,
            _ => {
                let mapper = Mapper::next();
                *last = Some((function.clone(), mapper));
                mapper
            }
        }
    }

    fn protected(&self) -> mlua::Result<Function> {
        self.protected
            .borrow()
            .clone()
            .ok_or_else(|| Failure::raise(NOT_NOW))
    }

    fn tables(&self) -> mlua::Result<RefMut<'_, docker::Tables>> {
        let tables = self.tables.try_borrow_mut().ok();
        tables
            .and_then(|tables| RefMut::filter_map(tables, Option::as_mut).ok())
            .ok_or_else(|| Failure::raise(NOT_NOW))
    }

    /// Raises an error once the time of a call is up.
    fn check_time(&self) -> mlua::Result<()> {
        match self.deadline.get() {
            Some(deadline) if time_taken() > deadline => Err(Failure::raise(TOO_LONG)),
            _ => Ok(()),
        }
    }

    /// Refuses what waits for somebody else, except in `run`.
    fn may_wait(&self, what: &str) -> mlua::Result<()> {
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
}

/// What a protected call came to: whether it went well, and then its results or its failure.
fn outcome(result: mlua::Result<MultiValue>) -> Result<MultiValue, Failure> {
    let mut values = result.map_err(|error| Failure::from_error(&error))?;
    match values.pop_front() {
        Some(Value::Boolean(true)) => Ok(values),
        _ => Err(Failure::from_value(values.front().unwrap_or(&Value::Nil))),
    }
}
