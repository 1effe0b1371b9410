//! What is shown of the wanted keys.

use std::sync::Arc;

use crate::base::key::Key;

/// How a wanted key stands in etcd.
#[derive(Debug, Clone)]
pub struct KeyView {
    /// The key.
    pub key: Key,
    /// Its wanted value.
    pub value: Arc<str>,
    /// Whether it is shared.
    pub shared: bool,
    /// The name of the container that it is for.
    pub container: Arc<str>,
    /// Whether it is there as it is wanted.
    pub stands: bool,
}
