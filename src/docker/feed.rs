//! The feed: publishes a snapshot whenever the containers of this host have changed, for as long as the process lives.
//!
//! It outlives connections and only joins them: a [`Session`] works on each, and [`Host`] is what stays known from one
//! to the next. A role starts one feed as a task; a command that needs a single snapshot calls [`super::look_once`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::client::{Daemon, Filters, connect, fresh, subscribe};
use super::host::Host;
use super::session::Session;
use super::snapshot::Snapshot;
use crate::base::calls::Calls;
use crate::ops::counter::Counter;
use crate::ops::outage::Outage;

/// A feed, and the parts of the program that it reports to.
pub struct Feed {
    /// The containers to follow.
    pub filters: Filters,
    /// How often all of them are listed again.
    pub resync: Duration,
    /// How often Docker is pinged, and how long each answer may take.
    pub ping: Duration,
    /// Counts the events about containers and their networks.
    pub events: Counter,
    /// Is told of each call to Docker.
    pub calls: Calls,
    /// Hears of each failure and each return of Docker.
    pub outage: Outage,
    /// Gets each snapshot.
    pub snapshots: watch::Sender<Option<Arc<Snapshot>>>,
}

impl Feed {
    /// Runs for ever. A `daemon` that was asked a moment ago saves the first connection that question and a list.
    pub async fn run(mut self, mut daemon: Option<Daemon>) {
        let mut host = Host::new(&self.filters);
        loop {
            let Err(error) = self.follow(&mut host, &mut daemon).await;
            let pause = self.outage.failed(format!("{error:#}"));
            sleep(pause).await;
        }
    }

    /// Works on one connection until it fails.
    async fn follow(
        &mut self,
        host: &mut Host,
        daemon: &mut Option<Daemon>,
    ) -> anyhow::Result<Infallible> {
        let docker = connect().await?;
        let mut daemon = fresh(&docker, daemon.take()).await?;
        host.set_rootless(daemon.is_rootless);
        let early = daemon.listed.take();
        let events = subscribe(&docker, daemon);
        Session::new(self, host, docker, events).run(early).await
    }
}
