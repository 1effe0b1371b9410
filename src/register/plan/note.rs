//! Notes about keys, which the keeper logs as warnings.

use std::fmt;
use std::sync::Arc;

use crate::base::key::Key;
use crate::base::text::quote;
use crate::store::On;
use crate::wanted::ContainerName;

/// A fact about a key for the operator. It is logged once, until it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Two containers want the key with different values, or one owned and one shared.
    Collision {
        key: Key,
        /// The container whose value stands, and the value.
        kept: (ContainerName, Arc<str>),
        /// The container whose value does not, and the value.
        refused: (ContainerName, Arc<str>),
        /// Whether it is a shared key, which describes the keys of several containers.
        shared: bool,
    },
    /// The key is on a lease that is neither ours nor its shared one, or a stranger's in another way.
    Foreign {
        key: Key,
        /// The container that wants the key.
        who: ContainerName,
        on: On,
    },
    /// The key was on no lease, and is taken over.
    Leftover {
        key: Key,
        /// The container that gets the key.
        who: ContainerName,
    },
    /// Another registrar gave the shared key another value.
    Differs {
        key: Key,
        /// This registrar's value.
        wanted: Arc<str>,
        /// The value in the store.
        found: Arc<str>,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collision {
                key,
                kept,
                refused,
                shared,
            } => write!(
                f,
                "two containers want {} and do not agree on it: {} is older and keeps it as {}, {} wants {} and does \
                 not get it; {}make their keys differ in the policy",
                quote(key),
                kept.0,
                quote(&kept.1),
                refused.0,
                quote(&refused.1),
                if *shared {
                    "if they have different versions of one image, replace the older one, else "
                } else {
                    ""
                }
            ),
            Self::Foreign { key, who, on } => write!(
                f,
                "{} is {on}, which is not this registrar's: {who} does not get it until it is free",
                quote(key)
            ),
            Self::Leftover { key, who } => write!(
                f,
                "{} was on no lease, so nothing would ever have removed it: taken over for {who}",
                quote(key)
            ),
            Self::Differs { key, wanted, found } => write!(
                f,
                "{} is {}, as another registrar wrote it; this one wants {} and leaves it: make the hosts agree",
                quote(key),
                quote(found),
                quote(wanted)
            ),
        }
    }
}
