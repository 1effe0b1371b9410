//! Docker's containers, as whole snapshots.
//!
//! An event only means "look again": the container is inspected, and the next snapshot has the result. While Docker
//! does not answer, there is no new snapshot, so an error never looks like an empty host. The room knows no role and no
//! policy.
//!
//! ```text
//! DOCKER_HOST ─access─> client ─events, lists, inspections─> session ─> host ─> snapshot
//! ```
//!
//! | file | purpose |
//! | --- | --- |
//! | `access` | finds Docker as its own client does, and explains why it cannot be reached |
//! | `client` | the calls to Docker, each with a timeout |
//! | `undecoded` | Docker's answers as it wrote them, past the client library's types |
//! | `feed` | follows Docker for as long as the process lives, one session after another |
//! | `session` | one connection: its events, lists, inspections and timers |
//! | `events`, `inspections`, `lists`, `outside` | parts of a session |
//! | `host` | the containers of this host, which outlive a connection |
//! | `known`, `stopping`, `unreadable` | parts of it: inspected containers, those about to end, those to try again |
//! | `snapshot` | the result |

mod access;
mod client;
mod events;
mod feed;
mod host;
mod inspections;
mod known;
mod lists;
mod outside;
mod session;
mod snapshot;
mod stopping;
mod undecoded;
mod unreadable;

use futures_util::stream::{self, StreamExt as _};
use tracing::warn;

use crate::base::text::quote;
use client::{Inspection, List, connect, first_list, inspect, list, passing};
use host::Host;
use inspections::AT_ONCE;
use outside::Outside;

pub use access::Endpoint;
pub use client::{Daemon, Filters};
pub use feed::Feed;
pub use snapshot::{Snapshot, Snapshots};

/// Takes one snapshot of the containers that pass `filters`. The log names the containers that cannot be inspected.
pub async fn look_once(filters: Filters) -> anyhow::Result<Snapshot> {
    let docker = connect().await?;
    let mut host = Host::new(&filters);
    let mut outside = Outside::new(&filters);
    let listed = match first_list(&docker, &filters).await? {
        List::Running(running) => {
            outside.on_running(Ok(&running));
            passing(&filters, running)
        }
        List::Passing(listed) => {
            if outside.should_ask(true) {
                outside.on_running(Ok(&list(docker.clone(), Filters::new()).await?));
            }
            listed
        }
    };
    outside.on_passing(listed.keys());
    host.take_outside(&mut outside);
    host.on_list(listed, true, |_| false);
    loop {
        let ids = host.take_all_dirty();
        if ids.is_empty() {
            return Ok(host.snapshot());
        }
        let mut inspections = stream::iter(ids)
            .map(|id| inspect(docker.clone(), filters.clone(), id))
            .buffer_unordered(AT_ONCE);
        while let Some((id, inspection)) = inspections.next().await {
            if let Inspection::Failed(why) = &inspection {
                let name = quote(&host.name_of(&id));
                warn!("cannot inspect container {name}: {why:#}");
            }
            host.on_inspection(&id, inspection);
        }
    }
}
