//! What an operator sees of a running process, and how it is run.

pub mod condition;
pub mod counter;
pub mod listen;
pub mod log;
pub mod outage;
pub mod side_thread;
pub mod systemd;
