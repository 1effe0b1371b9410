//! The wanted state: what a policy asks for.

mod claim;
mod entry;

pub use claim::{Claim, ContainerName, Wanted};
pub use entry::{Entry, TTL};
