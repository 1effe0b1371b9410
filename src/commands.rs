//! The commands that do one thing and exit.

pub mod keys;
