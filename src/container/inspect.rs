//! The inspect object, which few policies read: kept as packed text, in about an eighth of the memory that it takes decoded.

use std::sync::Arc;

use anyhow::Context as _;
use bollard::models::ContainerInspectResponse;
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use serde_json::Value;

/// The whole of what Docker says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspect(Arc<[u8]>);

impl Inspect {
    /// That of a decoded reply. Its maps have no order, so the fields are sorted: the same object is the same text.
    pub fn new(reply: &ContainerInspectResponse) -> anyhow::Result<Self> {
        let object = serde_json::to_value(reply).context("cannot keep its inspect object")?;
        Ok(Self(
            compress_prepend_size(object.to_string().as_bytes()).into(),
        ))
    }

    /// The object, decoded.
    pub fn object(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&decompress_size_prepended(
            &self.0,
        )?)?)
    }
}
