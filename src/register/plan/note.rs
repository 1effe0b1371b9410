//! What an operator should know of a key.

use std::fmt;
use std::sync::Arc;

use crate::base::key::Key;
use crate::base::text::quote;
use crate::store::LeaseId;
use crate::wanted::Who;

/// Something that an operator should know of a key; said once, until it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Two containers want the key with different values, or one owned and one shared.
    Collision {
        /// The key.
        key: Key,
        /// Whose value stands.
        kept: Who,
        /// Whose does not.
        refused: Who,
    },
    /// The key is on a lease that is neither ours nor its shared one.
    Foreign {
        /// The key.
        key: Key,
        /// Whose key it should be.
        who: Who,
        /// The lease that it is on.
        lease: LeaseId,
    },
    /// The key was on no lease, and is being taken.
    Leftover {
        /// The key.
        key: Key,
        /// Who takes it.
        who: Who,
    },
    /// Another registrar gave the shared key another value.
    Differs {
        /// The key.
        key: Key,
        /// What this registrar wants.
        wanted: Arc<str>,
        /// What stands.
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
