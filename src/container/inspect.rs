//! The whole inspect object of a container. Few policies read it, so it is kept compressed, in about an eighth of the
//! memory that it takes decoded. The feed chooses the moment, because compression takes time.

use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::ContainerInspectResponse;
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use serde_json::Value;

/// An inspect object. Clones share it.
#[derive(Debug, Clone)]
pub struct Inspect(Arc<Mutex<Kept>>);

#[derive(Debug)]
enum Kept {
    Decoded(Box<ContainerInspectResponse>),
    Packed(Arc<[u8]>),
}

impl Inspect {
    /// Stays decoded until it is packed.
    pub fn new(reply: ContainerInspectResponse) -> Self {
        Self(Arc::new(Mutex::new(Kept::Decoded(Box::new(reply)))))
    }

    /// Compresses it, which takes longer than all other work on a reply. A failure is told by [`Inspect::object`].
    pub fn pack(&self) {
        let _ = self.packed();
    }

    pub fn object(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&decompress_size_prepended(
            &self.packed()?,
        )?)?)
    }

    fn packed(&self) -> anyhow::Result<Arc<[u8]>> {
        // A panic while packing leaves the old value, so a poisoned lock is safe to use.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let packed = match &*kept {
            Kept::Packed(packed) => return Ok(Arc::clone(packed)),
            Kept::Decoded(reply) => {
                let object = serde_json::to_vec(reply)?;
                Arc::<[u8]>::from(compress_prepend_size(&object))
            }
        };
        *kept = Kept::Packed(Arc::clone(&packed));
        Ok(packed)
    }
}

/// The maps of a reply have no order, so equal objects may have different texts. This is rarely reached: containers
/// that differ mostly do so in an earlier field.
impl PartialEq for Inspect {
    fn eq(&self, other: &Self) -> bool {
        let are_same = || {
            let texts = (self.packed().ok()?, other.packed().ok()?);
            Some(texts.0 == texts.1 || self.object().ok()? == other.object().ok()?)
        };
        Arc::ptr_eq(&self.0, &other.0) || are_same().unwrap_or(false)
    }
}

impl Eq for Inspect {}
