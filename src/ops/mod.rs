//! How a role runs and what an operator sees of it: signals, the second thread, the log, HTTP, systemd, and the state of
//! partners. It knows no role; each role hands in its conditions and routes.

pub mod condition;
pub mod counter;
pub mod listen;
pub mod log;
pub mod outage;
pub mod readiness;
pub mod side_thread;
pub mod signals;
pub mod systemd;
