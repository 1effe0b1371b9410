//! The wanted state: what a policy asks for.

pub mod check;
mod claim;
mod entry;

pub use check::Check;
pub use claim::{Claim, ContainerName, Wanted};
pub use entry::{Entry, TTL};
