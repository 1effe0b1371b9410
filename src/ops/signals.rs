//! The signals that a daemon handles: TERM and INT end it, USR1 ends it for good, HUP reloads its script.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

pub struct Signals {
    endings: Endings,
    hangup: Signal,
    ends: Ends,
}

struct Endings {
    terminate: Signal,
    interrupt: Signal,
    leave: Signal,
    /// Another role has ended.
    of_role: watch::Receiver<()>,
    /// Whether this role is ending, so that the end of another one does not hurry it.
    is_ending: bool,
}

/// The end of a program, which its roles share. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    for_good: ForGood,
    of_role: watch::Sender<()>,
    is_logged: Arc<AtomicBool>,
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
    /// No signal: another role of this process has ended.
    OfRole,
}

impl Ends {
    /// Makes all other roles end, in order.
    pub fn end_roles(&self) {
        self.of_role.send_replace(());
    }
}

impl Signals {
    /// Listens from now on. A signal that arrives between two calls is kept.
    pub fn listen(ends: &Ends) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            endings: Endings {
                terminate: listen(SignalKind::terminate())?,
                interrupt: listen(SignalKind::interrupt())?,
                leave: listen(SignalKind::user_defined1())?,
                of_role: ends.of_role.subscribe(),
                is_ending: false,
            },
            hangup: listen(SignalKind::hangup())?,
            ends: ends.clone(),
        })
    }

    pub async fn next(&mut self) -> Request {
        let ending = tokio::select! {
            biased;
            ending = self.endings.next() => ending,
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
        self.endings.next().await
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
        self.ends.for_good.clone()
    }

    fn record(&self, ending: Ending) {
        // Each role of the process hears of it.
        if !self.ends.is_logged.swap(true, Ordering::Relaxed) {
            info!("ending: {}", ending.name());
        }
        if ending == Ending::Leave {
            self.ends.for_good.0.store(true, Ordering::Relaxed);
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
            Self::OfRole => "another role has ended",
        }
    }
}

impl Endings {
    async fn next(&mut self) -> Ending {
        let ending = tokio::select! {
            // A signal comes first: one that is left over would hurry the end.
            biased;
            _ = self.terminate.recv() => Ending::Terminate,
            _ = self.interrupt.recv() => Ending::Interrupt,
            _ = self.leave.recv() => Ending::Leave,
            // The sender is in `ends`, so it is never gone.
            _ = self.of_role.changed(), if !self.is_ending => Ending::OfRole,
        };
        self.is_ending = true;
        ending
    }
}
