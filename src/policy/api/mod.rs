//! The modules that a policy requires. Each file makes the table of one, from the sandbox's context and what a role
//! adds.

pub mod check;
mod container;
mod docker;
mod entries;
mod etcd;
pub mod json;
pub mod log;
pub mod options;
pub mod state;
pub mod test;

use std::rc::Rc;

use super::sandbox::Module;
use state::ScriptState;

/// The modules of a registrar's policy.
pub fn modules(state: &Rc<ScriptState>) -> Vec<Module> {
    let [for_docker, for_store, for_options] = [(); 3].map(|()| Rc::clone(state));
    vec![
        Module::new("docker", move |lua, context| {
            docker::module(lua, context, &for_docker)
        }),
        Module::new("store", move |lua, context| {
            etcd::module(lua, context, &for_store)
        })
        .also("etcd"),
        Module::new("json", json::module),
        Module::new("log", |lua, _| log::module(lua)),
        Module::new("options", move |lua, context| {
            let ScriptState { world, given, .. } = &*for_options;
            options::module(lua, context, given, &world.options)
        }),
    ]
}
