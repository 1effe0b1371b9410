//! The calls of a store that the feed needs. Tests make them up.

use crate::store::{Listing, Store, StoreError, Watching};

/// A store whose keys can be listed and watched, by the promises of [`Store`].
pub trait Source: Send {
    type Watching: Watching;

    fn scan(&mut self, prefix: &str) -> impl Future<Output = Result<Listing, StoreError>> + Send;

    fn watch(
        &mut self,
        prefix: &str,
        revision: i64,
    ) -> impl Future<Output = Result<Self::Watching, StoreError>> + Send;
}

impl<S: Store> Source for S {
    type Watching = S::Watching;

    fn scan(&mut self, prefix: &str) -> impl Future<Output = Result<Listing, StoreError>> + Send {
        Store::scan(self, prefix)
    }

    fn watch(
        &mut self,
        prefix: &str,
        revision: i64,
    ) -> impl Future<Output = Result<Self::Watching, StoreError>> + Send {
        Store::watch(self, prefix, revision)
    }
}
