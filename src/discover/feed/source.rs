//! The calls of a store that the feed needs. Tests make them up.

use tokio::time::Instant;

use crate::store::etcd::{Connection, Watch};
use crate::store::{Changes, Found, StoreError};

/// A store whose keys can be listed and watched.
pub trait Source: Send {
    type Watching: Watching;

    /// All keys that begin with `prefix`, read at one revision, and that revision.
    fn list(
        &mut self,
        prefix: &str,
    ) -> impl Future<Output = Result<(Vec<Found>, i64), StoreError>> + Send;

    /// Watches the keys that begin with `prefix`, from the changes of `revision` on.
    fn watch(
        &mut self,
        prefix: &str,
        revision: i64,
    ) -> impl Future<Output = Result<Self::Watching, StoreError>> + Send;
}

/// A watch, which ends with its first error.
pub trait Watching: Send {
    /// The changes of the next revision that has any. If this future is dropped, nothing is lost.
    fn next(&mut self) -> impl Future<Output = Result<Changes, StoreError>> + Send;

    /// The time of the store's last answer.
    fn heard_at(&self) -> Instant;
}

impl Source for Connection {
    type Watching = Watch;

    async fn list(&mut self, prefix: &str) -> Result<(Vec<Found>, i64), StoreError> {
        let listing = Connection::list(self, prefix).await?;
        Ok((listing.keys, listing.revision))
    }

    async fn watch(&mut self, prefix: &str, revision: i64) -> Result<Watch, StoreError> {
        Connection::watch(self, prefix, revision).await
    }
}

impl Watching for Watch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        Watch::next(self).await
    }

    fn heard_at(&self) -> Instant {
        Watch::heard_at(self)
    }
}
