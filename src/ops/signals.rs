//! The signals that a daemon handles: TERM and INT end it, HUP reloads its script.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    End,
    Reload,
}

impl Signals {
    /// Listens from now on. A signal that arrives between two calls is kept.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Request {
        let name = tokio::select! {
            biased;
            name = ending(&mut self.terminate, &mut self.interrupt) => name,
            _ = self.hangup.recv() => return Request::Reload,
        };
        info!("ending: {name}");
        Request::End
    }

    /// Waits for a signal that ends the program, and logs it.
    pub async fn end(&mut self) {
        let name = self.end_quietly().await;
        info!("ending: {name}");
    }

    /// Waits for a signal that ends the program, and returns its name.
    pub async fn end_quietly(&mut self) -> &'static str {
        ending(&mut self.terminate, &mut self.interrupt).await
    }

    /// The result of `work`, or none if a signal ends the program first.
    pub async fn unless_ended<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.end() => None,
        }
    }
}

async fn ending(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
