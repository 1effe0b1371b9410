//! The inspect object, which few policies read: kept as text, in a fifth of the memory that it takes decoded.

use std::sync::Arc;

use anyhow::Context as _;
use bollard::models::ContainerInspectResponse;
use serde_json::Value;

/// The whole of what Docker says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspect(Arc<str>);

impl Inspect {
    /// That of a decoded reply. Its maps have no order, so the fields are sorted: the same object is the same text.
    pub fn new(reply: &ContainerInspectResponse) -> anyhow::Result<Self> {
        let object = serde_json::to_value(reply).context("cannot keep its inspect object")?;
        Ok(Self(object.to_string().into()))
    }

    /// The object, decoded.
    pub fn object(&self) -> serde_json::Result<Value> {
        serde_json::from_str(&self.0)
    }
}
