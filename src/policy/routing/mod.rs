//! A reading policy: its world, and its modules `etcd` and `proxy`. `discover` loads it and makes its routes so.

mod files;
mod listeners;
mod lists;
mod proxy;
mod reading;
mod script;
mod services;
mod state;
mod tables;
mod world;

pub use files::Reader as FileReader;
pub use proxy::{files_of, read_listener_of};
pub use script::proxy_for_tests;
pub use tables::with_listener;
pub use world::{KeySource, Owners, ProxyOptions, RoutingOptions, RoutingWorld};
