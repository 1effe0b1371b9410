//! `up`: registers this host's containers and routes to all services, until a signal ends it. Both roles are in one
//! process and one thread, and know nothing of each other.

use tracing::info;

use crate::discover;
use crate::ops::log::Recent;
use crate::ops::role;
use crate::ops::side_thread::LastWords;
use crate::register;

/// The errors before the program ends by force.
const LAST_WORDS: LastWords = LastWords {
    hangs: "a script hangs, so the program ends without waiting for it; the proxy goes on as it is",
    late: "the last work takes too long, so the program ends without waiting for it",
};

/// Both roles have the same store.
pub struct Settings {
    pub register: register::Settings,
    pub discover: discover::Settings,
}

pub async fn run(settings: Settings, recent: Recent) -> anyhow::Result<bool> {
    let Settings { register, discover } = settings;
    if !register.host.store.lasts() {
        info!(
            "the keys are in this process alone, so the services are those of this host; --etcd or --store names a store \
             that hosts share"
        );
    }
    let roles = role::run(recent, register.listen, LAST_WORDS, |process| {
        Ok(vec![
            register::role(register, process)?,
            discover::role(discover, process)?,
        ])
    });
    roles.await.map(|()| true)
}
