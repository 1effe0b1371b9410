//! The second thread of a daemon, for work that must go on while a script keeps the first one busy: HTTP, the
//! watchdog, late renewals, and the forced end.

use std::time::Duration;
use std::{io, thread};

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::error;

use super::log;
use super::signals::Signals;

/// The time from a signal to the forced end. A script that hangs in a call of Lua's own library can be stopped in no
/// other way. Every other shutdown takes less.
const FORCED_END: Duration = Duration::from_secs(5);

/// Dropping it ends the thread's work.
pub struct SideThread {
    handle: Handle,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl SideThread {
    /// Starts the thread. `last_words` is the error that is logged when the program ends by force.
    pub fn start(last_words: &'static str) -> anyhow::Result<Self> {
        let side = Self::start_thread().context("cannot start a thread")?;
        let signals = side.enter(Signals::listen)?;
        side.spawn(end_by_force(signals, last_words));
        Ok(side)
    }

    fn start_thread() -> io::Result<Self> {
        // A runtime with a pool of threads would take more memory than all that runs here.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel();
        let work = move || {
            let _ = runtime.block_on(ended);
            // A look-up of a host's name cannot be stopped, and must not hold up the end.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("side".to_owned()).spawn(work)?;
        Ok(Self {
            handle,
            _running: running,
        })
    }

    /// Runs `work` on the thread.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }

    /// Calls `start`; the tasks that it spawns run on the thread.
    pub fn enter<T>(&self, start: impl FnOnce() -> T) -> T {
        let _guard = self.handle.enter();
        start()
    }
}

async fn end_by_force(mut signals: Signals, last_words: &'static str) {
    signals.end_quietly().await;
    tokio::time::sleep(FORCED_END).await;
    error!("{last_words}");
    log::flush();
    std::process::exit(1);
}
