//! One key that a policy asks for.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::base::key::{Illegal, Key, check_key};
use crate::base::text::quote;

/// The longest value, in bytes. etcd takes requests of up to 1.5 MiB, and its client answers of up to 4 MiB: so many
/// that all keys of a transaction fit.
pub const MAX_VALUE: usize = 16 * 1024;
/// The times to live that an entry may ask for, in seconds: up to a day.
pub const TTL: RangeInclusive<u32> = 1..=86_400;

/// One key that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: Key,
    /// The value.
    pub value: Arc<str>,
    /// How long the key outlives its registrar, in seconds.
    pub ttl: u32,
    /// Whether registrars of other hosts want the same key, so that no single host's death may take it.
    pub shared: bool,
}

impl Entry {
    /// Checks a finished entry, whoever built it.
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
