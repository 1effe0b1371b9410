//! A count that one part of the program keeps and another one shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often something has happened. A clone is the same counter.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Counts one more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
