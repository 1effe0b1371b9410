//! The signals that a daemon handles: TERM and INT end it, USR1 ends it for good, HUP reloads its script.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    leave: Signal,
    hangup: Signal,
    for_good: ForGood,
}

/// Whether a signal that ended the program was USR1, so that it leaves nothing behind. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct ForGood(Arc<AtomicBool>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    End,
    Reload,
}

/// A signal that ends the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Terminate,
    Interrupt,
    Leave,
}

impl Signals {
    /// Listens from now on. A signal that arrives between two calls is kept.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            leave: listen(SignalKind::user_defined1())?,
            hangup: listen(SignalKind::hangup())?,
            for_good: ForGood::default(),
        })
    }

    pub async fn next(&mut self) -> Request {
        let ending = tokio::select! {
            biased;
            ending = ending(&mut self.terminate, &mut self.interrupt, &mut self.leave) => ending,
            _ = self.hangup.recv() => return Request::Reload,
        };
        self.record(ending);
        Request::End
    }

    /// Waits for a signal that ends the program, and logs it.
    pub async fn end(&mut self) {
        let ending = self.end_quietly().await;
        self.record(ending);
    }

    /// Waits for a signal that ends the program, and returns it.
    pub async fn end_quietly(&mut self) -> Ending {
        ending(&mut self.terminate, &mut self.interrupt, &mut self.leave).await
    }

    /// The result of `work`, or none if a signal ends the program first.
    pub async fn unless_ended<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.end() => None,
        }
    }

    /// Whether the program ends for good, once a signal has ended it.
    pub fn for_good(&self) -> ForGood {
        self.for_good.clone()
    }

    fn record(&mut self, ending: Ending) {
        info!("ending: {}", ending.name());
        if ending == Ending::Leave {
            self.for_good.0.store(true, Ordering::Relaxed);
        }
    }
}

impl ForGood {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Ending {
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Leave => "SIGUSR1",
        }
    }
}

async fn ending(terminate: &mut Signal, interrupt: &mut Signal, leave: &mut Signal) -> Ending {
    tokio::select! {
        _ = terminate.recv() => Ending::Terminate,
        _ = interrupt.recv() => Ending::Interrupt,
        _ = leave.recv() => Ending::Leave,
    }
}
