//! The whole inspect object of a container. Few policies read it, so it is kept compressed, in about a twentieth of the
//! memory that it takes decoded. The feed chooses the moment, because compression takes time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lz4_flex::block::{
    compress_prepend_size_with_dict as compress, decompress_size_prepended_with_dict as decompress,
};
use serde_json::Value;

/// The dictionary of the compression: an object as Docker sends it. The names of fields and the defaults, which most
/// objects share, take next to nothing in each.
const TYPICAL: &[u8] = include_bytes!("typical.json");

/// An inspect object. Clones share it.
#[derive(Debug, Clone)]
pub struct Inspect(Arc<Mutex<Kept>>);

#[derive(Debug)]
enum Kept {
    /// As Docker sent it.
    Text(Box<[u8]>),
    Packed(Arc<[u8]>),
}

impl Inspect {
    /// Takes the text of the object. It is not compressed until it is packed.
    pub fn new(object: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(Kept::Text(object.into()))))
    }

    /// Compresses it, which takes longer than all other work on a reply.
    pub fn pack(&self) {
        self.packed();
    }

    /// Decodes it.
    pub fn object(&self) -> anyhow::Result<Value> {
        Ok(match &*self.kept() {
            Kept::Text(text) => serde_json::from_slice(text)?,
            Kept::Packed(packed) => serde_json::from_slice(&decompress(packed, TYPICAL)?)?,
        })
    }

    fn packed(&self) -> Arc<[u8]> {
        let mut kept = self.kept();
        let packed = match &*kept {
            Kept::Packed(packed) => return Arc::clone(packed),
            Kept::Text(text) => Arc::<[u8]>::from(compress(text, TYPICAL)),
        };
        *kept = Kept::Packed(Arc::clone(&packed));
        packed
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic while packing leaves the old value, so a poisoned lock is safe to use.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Equal objects may have different texts, because the order of their members does not count. This is rarely reached:
/// containers that differ mostly do so in an earlier field.
impl PartialEq for Inspect {
    fn eq(&self, other: &Self) -> bool {
        let are_same = || {
            let same = self.packed() == other.packed();
            Some(same || self.object().ok()? == other.object().ok()?)
        };
        Arc::ptr_eq(&self.0, &other.0) || are_same().unwrap_or(false)
    }
}

impl Eq for Inspect {}
