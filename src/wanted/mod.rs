//! What a policy asks for.

pub mod entry;
