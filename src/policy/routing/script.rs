//! A reading policy's script, in a sandbox with the modules of this room.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Lua, Result, Table};

use super::state::RoutingState;
use super::world::{KeySource, Owners, ProxyOptions, RoutingOptions, RoutingWorld};
use super::{proxy, services};
use crate::ops::condition::Condition;
use crate::policy::Failure;
use crate::policy::api::options::of_host;
use crate::policy::api::{json, log};
use crate::policy::bundled::{DISCOVER, READING_SCRIPTS};
use crate::policy::driver::Role;
use crate::policy::sandbox::{Context, Module, Setup};
use crate::policy::script::Script;

impl Role for RoutingWorld {
    const SOURCE: &'static str = "etcd.services()";
    const KEPT: &'static str = "routes";

    fn load(&self) -> std::result::Result<Script, Failure> {
        let state = Rc::new(RoutingState::new(self.clone()));
        Script::load(setup(self), modules(&state))
    }

    fn condition(&self) -> &Condition {
        &self.condition
    }

    /// The proxy of an earlier process may have routes.
    fn has_begun(&self) -> bool {
        true
    }
}

/// The sandbox of a reading policy.
pub fn setup(world: &RoutingWorld) -> Setup {
    Setup {
        script: world.script.clone().unwrap_or(PathBuf::from(DISCOVER)),
        bundled: &READING_SCRIPTS,
        policy: DISCOVER,
        elsewhere: &[],
        looks_above: false,
        runs_once: matches!(world.source, KeySource::Once(_)),
    }
}

/// The modules of a reading policy.
pub fn modules(state: &Rc<RoutingState>) -> Vec<Module> {
    let [for_store, for_options, for_proxy] = [(); 3].map(|()| Rc::clone(state));
    vec![
        Module::new("store", move |lua, context| {
            services::module(lua, context, &for_store)
        })
        .also("etcd"),
        Module::new("json", json::module),
        Module::new("log", |lua, _| log::module(lua)),
        Module::new("options", move |lua, context| {
            options(lua, context, &for_options)
        }),
        Module::new("proxy", move |lua, context| {
            proxy::module(lua, context, &for_proxy)
        }),
    ]
}

/// The module `proxy` in tests.
pub fn proxy_for_tests(lua: &Lua, context: &Rc<Context>) -> Result<Table> {
    let keys = KeySource::Once(Arc::default());
    let owners: Owners = Rc::new(|claims| claims.iter().map(|_| Ok(())).collect());
    let options = RoutingOptions {
        proxy: ProxyOptions {
            name: "haproxy".to_owned(),
            directory: "/run".to_owned(),
            socket: "/run/haproxy.sock".to_owned(),
            state_file: "/run/haproxy.state".to_owned(),
            pid_file: "/run/nginx.pid".to_owned(),
        },
        ..RoutingOptions::default()
    };
    let world = RoutingWorld::new(options, keys, owners);
    let state = Rc::new(RoutingState::new(world));
    proxy::module(lua, context, &state)
}

fn options(lua: &Lua, context: &Context, state: &RoutingState) -> Result<Table> {
    let table = of_host(lua, context.frozen(), &state.given)?;
    table.raw_set("prefix", state.world.options.prefix.as_str())?;
    if let Some(layout) = &state.world.options.layout {
        table.raw_set("layout", layout.as_str())?;
    }
    context.frozen().freeze(table)
}
