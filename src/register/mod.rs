//! The writing role: keeps the store in step with the containers that run on this host.

pub mod collisions;
mod drain;
mod host_ip;
mod id_file;
mod introduction;
mod keeper;
mod leases;
mod metrics;
mod page;
pub mod plan;
mod run;
mod seat;
mod settings;
mod status;
pub mod timetable;

pub use host_ip::or_loopback as host_ip_or_loopback;
pub use run::{role, run};
pub use settings::{HostSettings, Mode, OnExit, Settings};
