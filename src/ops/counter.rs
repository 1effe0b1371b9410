//! A counter that one part of the program increments and another one shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A clone is the same counter.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
