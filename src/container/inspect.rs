//! The inspect object, which few policies read: kept as text, in a fifth of the memory that it takes decoded.

use std::sync::Arc;

use anyhow::Context as _;
use bollard::models::ContainerInspectResponse;
use serde_json::Value;

/// The whole of what Docker says of a container.
#[derive(Debug, Clone)]
pub struct Inspect(Arc<str>);

impl Inspect {
    /// That of a decoded reply.
    pub fn new(reply: &ContainerInspectResponse) -> anyhow::Result<Self> {
        let text = serde_json::to_string(reply).context("cannot keep its inspect object")?;
        Ok(Self(text.into()))
    }

    /// The object, decoded.
    pub fn object(&self) -> serde_json::Result<Value> {
        serde_json::from_str(&self.0)
    }
}

/// One object may be two texts, for its maps have no order.
impl PartialEq for Inspect {
    fn eq(&self, other: &Self) -> bool {
        let object = |inspect: &Self| inspect.object().ok();
        self.0 == other.0
            || self.0.len() == other.0.len()
                && matches!((object(self), object(other)), (Some(a), Some(b)) if a == b)
    }
}
