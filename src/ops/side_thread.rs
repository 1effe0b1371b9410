//! The second thread of a daemon, for work that must go on while a script keeps the first one busy: HTTP, the
//! watchdog, late renewals, and the forced end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::error;

use super::log;
use super::signals::{Ends, Signals};

/// The time from a signal to the forced end of a program that has not begun to end. A script that hangs in a call of
/// Lua's own library can be stopped in no other way.
const FORCED_END: Duration = Duration::from_secs(5);
/// The time from a signal to the forced end of one that is ending: less than the ten seconds after which `docker stop`
/// kills it.
const LAST_END: Duration = Duration::from_secs(9);

/// The errors that are logged when the program ends by force.
#[derive(Debug, Clone, Copy)]
pub struct LastWords {
    /// It has not begun to end.
    pub hangs: &'static str,
    /// Its end takes too long.
    pub late: &'static str,
}

/// Dropping it ends the thread's work.
pub struct SideThread {
    handle: Handle,
    /// Whether the program is ending.
    ends: Arc<AtomicBool>,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl SideThread {
    pub fn start(last_words: LastWords) -> anyhow::Result<Self> {
        let side = Self::start_thread().context("cannot start a thread")?;
        let signals = side.enter(|| Signals::listen(&Ends::default()))?;
        side.spawn(end_by_force(signals, Arc::clone(&side.ends), last_words));
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
            ends: Arc::default(),
            _running: running,
        })
    }

    /// Says that the program is ending, so that it gets more time for that.
    pub fn program_ends(&self) {
        self.ends.store(true, Ordering::Relaxed);
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

async fn end_by_force(mut signals: Signals, ends: Arc<AtomicBool>, last_words: LastWords) {
    signals.end_quietly().await;
    tokio::time::sleep(FORCED_END).await;
    let words = if ends.load(Ordering::Relaxed) {
        tokio::time::sleep(LAST_END.saturating_sub(FORCED_END)).await;
        last_words.late
    } else {
        last_words.hangs
    };
    error!("{words}");
    log::flush();
    std::process::exit(1);
}
