//! The wanted state: what a policy asks for.

mod claim;
mod entry;

pub use claim::{Claim, Wanted, Who};
pub use entry::{Entry, TTL};
