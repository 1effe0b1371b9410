//! Notes about keys, which the keeper logs as warnings.

use std::fmt;
use std::sync::Arc;

use crate::base::key::Key;
use crate::base::text::quote;
use crate::store::LeaseId;
use crate::wanted::ContainerName;

/// A fact about a key for the operator. It is logged once, until it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Two containers want the key with different values, or one owned and one shared.
    Collision {
        key: Key,
        /// The container whose value stands.
        kept: ContainerName,
        /// The container whose value does not.
        refused: ContainerName,
    },
    /// The key is on a lease that is neither ours nor its shared one.
    Foreign {
        key: Key,
        /// The container that wants the key.
        who: ContainerName,
        lease: LeaseId,
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
            Self::Collision { key, kept, refused } => write!(
                f,
                "two containers want {} and do not agree on it: {kept} is older and keeps it, {refused} does \
                 not get it; make their keys differ in the policy",
                quote(key)
            ),
            Self::Foreign { key, who, lease } => write!(
                f,
                "{} is on lease {lease}, which is not this registrar's: {who} does not get it until it is free",
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
