//! What every room may use: addresses, files, time limits, and collections in order of age.

pub mod address;
pub mod by_age;
pub mod deadline;
pub mod file;
