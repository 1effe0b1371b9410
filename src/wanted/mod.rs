//! The wanted state: what a policy asks for.

pub mod check;
mod claim;
mod entry;

pub use check::Check;
pub use claim::{Claim, ContainerName, Wanted, WantedReceiver};
pub use entry::{Entry, TTL};
