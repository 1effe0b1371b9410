//! What goes on beside the thread of the script, the feed and the keeper, because it must not wait until a script lets go.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tracing::error;

use crate::ops::listen;
use crate::ops::log::{self, Recent};
use crate::ops::systemd;
use crate::register::keeper::{relieve, watch_expiry};
use crate::register::run::{Asked, Config, Signals};
use crate::register::status::Status;
use crate::register::timetable::call_limit;
use crate::store::etcd::EtcdStore;

/// How long after a signal the program ends even if the script does not let go, which happens within a single call of
/// Lua's own library. All else takes less.
const LAST_RESORT: Duration = Duration::from_secs(5);

/// Another thread, with all that goes on there; it ends when this is dropped.
pub struct SideThread {
    handle: Handle,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl SideThread {
    /// Answers HTTP if it is to, tells systemd how it goes, renews the leases if the keeper cannot, and ends the program by
    /// force after a signal.
    pub fn start(config: &Config, status: &Arc<Status>, recent: Recent) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("aside")
            .enable_all()
            .build()
            .context("cannot start a thread")?;
        let aside = Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        };
        let handle = &aside.handle;
        handle.spawn(end_by_force(Signals::new()?));
        handle.spawn(systemd::follow(Arc::clone(status)));
        if !config.dry_run {
            let (access, ttl) = (config.asked.etcd.clone(), config.asked.options.ttl);
            let connect = move || EtcdStore::new(access.clone(), call_limit(ttl));
            handle.spawn(relieve(connect, ttl, Arc::clone(status)));
            handle.spawn(watch_expiry(Arc::clone(status)));
        }
        if let Some(address) = config.listen {
            let _there = handle.enter();
            listen::start(address, Arc::clone(status), recent, about(&config.asked))?;
        }
        Ok(aside)
    }

    /// Has something else go on there.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }
}

impl Drop for SideThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nothing that goes on there is waited for.
            runtime.shutdown_background();
        }
    }
}

/// What the page says of this registrar.
fn about(asked: &Asked) -> Vec<(&'static str, String)> {
    vec![
        ("version", env!("VERSION_AND_COMMIT").to_owned()),
        ("started", format!("{:.0}", Timestamp::now())),
        ("etcd endpoints", asked.etcd.endpoints.join(", ")),
        ("prefix", asked.options.prefix.clone()),
    ]
}

/// Ends the program some time after a signal. No script can hold it up here.
async fn end_by_force(mut signals: Signals) {
    signals.next().await;
    tokio::time::sleep(LAST_RESORT).await;
    error!("the script does not let go, so this ends without it; the keys stay until their TTL");
    log::flush();
    std::process::exit(1);
}
