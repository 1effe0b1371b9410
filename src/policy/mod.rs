//! The policy of the registrar: what its script has, and its calls.
//!
//! `sandbox` runs a script of any role. `api` has the modules that a script requires. `script` joins the two for the
//! registrar, with what a [`World`] hands in. `verdicts` keeps the last result for each container, also while a script
//! fails or is loaded again. `register/run` and the commands load a [`Script`] and run it.

mod api;
mod bundled;
mod driver;
mod host;
mod routing;
mod sandbox;
mod script;
pub mod steps;
#[cfg(test)]
mod tests;
mod verdicts;
mod world;

pub use api::test::test_file;
pub use driver::{Role, drive};
pub use routing::{KeySource, Owners, ProxyOptions, RoutingOptions, RoutingWorld};
pub use sandbox::failure::Failure;
pub use script::Script;
pub use verdicts::{ContainerView, Verdicts};
pub use world::{Options, Reader, Report, World};
