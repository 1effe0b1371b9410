//! One key that a policy asks for.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Check;
use crate::base::key::{Illegal, Key, check_key};
use crate::base::text::quote;

/// The longest value, in bytes. All values of a transaction must fit into etcd's limit for a request (1.5 MiB) and its
/// client's limit for an answer (4 MiB).
pub const MAX_VALUE: usize = 16 * 1024;
/// The legal TTLs of an entry, in seconds: up to a day.
pub const TTL: RangeInclusive<u32> = 1..=86_400;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub value: Arc<str>,
    /// The TTL: the seconds that the key outlives its registrar.
    pub ttl: u32,
    /// Whether registrars of other hosts want the same key too, so that it must survive the death of one host.
    pub shared: bool,
    /// The condition for the key's existence; none if it always exists.
    pub check: Option<Arc<Check>>,
}

impl Entry {
    /// Checks a finished entry, from a layout or from the policy's own code.
    pub fn check(&self) -> Result<(), Illegal> {
        check_key(&self.key)?;
        if self.value.len() > MAX_VALUE {
            return Err(Illegal::new(format!(
                "the value of {} has {} bytes, more than {MAX_VALUE}",
                quote(&self.key),
                self.value.len()
            )));
        }
        if !TTL.contains(&self.ttl) {
            return Err(Illegal::new(format!(
                "`ttl` of {} is {}; it must be from {} to {} seconds",
                quote(&self.key),
                self.ttl,
                TTL.start(),
                TTL.end()
            )));
        }
        Ok(())
    }
}
