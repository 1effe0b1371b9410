//! The running of roles, and an operator's view of it: signals, the second thread, the log, HTTP, systemd, and the
//! state of partners. It knows no role; each role hands in its conditions and pages.

pub mod collector;
pub mod condition;
pub mod counter;
pub mod listen;
pub mod loads;
pub mod log;
pub mod metrics;
pub mod outage;
pub mod page;
mod process_metrics;
pub mod readiness;
pub mod role;
pub mod side_thread;
pub mod signals;
pub mod systemd;
