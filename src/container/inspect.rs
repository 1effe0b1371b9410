//! The inspect object, which few policies read: kept as packed text, in about an eighth of the memory that it takes decoded.

use std::sync::Arc;

use anyhow::Context as _;
use bollard::models::ContainerInspectResponse;
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use serde_json::Value;

/// The whole of what Docker says of a container.
#[derive(Debug, Clone)]
pub struct Inspect(Arc<[u8]>);

impl Inspect {
    /// That of a decoded reply.
    pub fn new(reply: &ContainerInspectResponse) -> anyhow::Result<Self> {
        let object = serde_json::to_vec(reply).context("cannot keep its inspect object")?;
        Ok(Self(compress_prepend_size(&object).into()))
    }

    /// The object, decoded.
    pub fn object(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&decompress_size_prepended(
            &self.0,
        )?)?)
    }
}

/// The maps of a reply have no order, so that the same object may be another text. Most often nobody asks: of containers
/// that differ, something else does too.
impl PartialEq for Inspect {
    fn eq(&self, other: &Self) -> bool {
        let are_same = || Some(self.object().ok()? == other.object().ok()?);
        self.0 == other.0 || are_same().unwrap_or(false)
    }
}

impl Eq for Inspect {}
