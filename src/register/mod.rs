//! The writing role: keeps the store in step with the containers that run on this host.

pub mod introduction;
pub mod keeper;
pub mod metrics;
pub mod page;
pub mod plan;
pub mod run;
pub mod status;
pub mod steps;
pub mod timetable;
