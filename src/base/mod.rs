//! The room that every other room may use: keys, text, files, addresses, time limits, what is told of calls, and collections in order of age.

pub mod address;
pub mod by_age;
pub mod calls;
pub mod certificate;
pub mod deadline;
pub mod file;
pub mod key;
pub mod text;
