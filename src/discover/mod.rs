//! The reading role: makes a proxy route to the services that are registered in the store.

mod addresses;
mod applied;
mod dry_run;
mod feed;
mod files;
mod haproxy;
mod keeper;
mod loader;
mod metrics;
mod page;
mod plan;
mod process;
mod refused;
mod run;
mod settings;
mod status;

pub use dry_run::{owners as owners_of_a_dry_run, watch_keys};
pub use haproxy::Sockets;
pub use keeper::STATE as STATE_FILE;
pub use run::{role, run};
pub use settings::{
    Commands, Mode, OnExit, Proxy, ProxySettings, RoutingSettings, Settings, Starter,
};
