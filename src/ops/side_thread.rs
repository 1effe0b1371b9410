//! The second thread of a daemon, for work that must go on while a script keeps the first one busy: HTTP, the
//! watchdog, late renewals, and the forced end.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};
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
    /// None only during drop.
    runtime: Option<Runtime>,
}

impl SideThread {
    /// Starts the thread. `last_words` is the error that is logged when the program ends by force.
    pub fn start(last_words: &'static str) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("side")
            .enable_all()
            .build()
            .context("cannot start a thread")?;
        let handle = runtime.handle().clone();
        handle.spawn(end_by_force(Signals::listen()?, last_words));
        Ok(Self {
            handle,
            runtime: Some(runtime),
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

impl Drop for SideThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn end_by_force(mut signals: Signals, last_words: &'static str) {
    signals.end_quietly().await;
    tokio::time::sleep(FORCED_END).await;
    error!("{last_words}");
    log::flush();
    std::process::exit(1);
}
