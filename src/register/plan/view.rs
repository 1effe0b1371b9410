//! The wanted keys as the page and the metrics show them.

use std::sync::Arc;

use crate::base::key::Key;

/// A wanted key, and whether it is in the store.
#[derive(Debug, Clone)]
pub struct KeyView {
    pub key: Key,
    /// The wanted value.
    pub value: Arc<str>,
    pub shared: bool,
    /// The name of its container.
    pub container: Arc<str>,
    /// Whether the store has the key with the wanted value, on a lease of ours or its shared one.
    pub stands: bool,
    /// Whether the store has the key on a lease that is neither ours nor its shared one.
    pub held: bool,
}
