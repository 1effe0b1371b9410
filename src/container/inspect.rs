//! The inspect object, which few policies read: kept as packed text, in about an eighth of the memory that it takes decoded.

use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::ContainerInspectResponse;
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use serde_json::Value;

/// The whole of what Docker says of a container. A clone is the same object.
#[derive(Debug, Clone)]
pub struct Inspect(Arc<Mutex<Kept>>);

#[derive(Debug)]
enum Kept {
    Decoded(Box<ContainerInspectResponse>),
    Packed(Arc<[u8]>),
}

impl Inspect {
    /// That of a decoded reply, which it stays until it is packed.
    pub fn new(reply: ContainerInspectResponse) -> Self {
        Self(Arc::new(Mutex::new(Kept::Decoded(Box::new(reply)))))
    }

    /// Packs it, which takes longer than all else that becomes of a reply. One that cannot be packed stays as it is, and
    /// whoever asks for the object is told why.
    pub fn pack(&self) {
        let _ = self.packed();
    }

    /// The object, decoded.
    pub fn object(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&decompress_size_prepended(
            &self.packed()?,
        )?)?)
    }

    fn packed(&self) -> anyhow::Result<Arc<[u8]>> {
        // Packing leaves it as it was or packs it, whatever happens.
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

/// The maps of a reply have no order, so that the same object may be another text. Most often nobody asks: of containers
/// that differ, something else does too.
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
