//! The modules that a script requires.

pub mod container;
pub mod docker;
pub mod entries;
pub mod etcd;
pub mod json;
pub mod log;
pub mod options;
pub mod test;
