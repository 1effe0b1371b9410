//! Gate and prober together, against services that are odd.

mod gate;
mod prober;

use std::sync::Arc;
use std::time::Duration;

use crate::wanted::check::{Kind, Probe, Tcp};
use crate::wanted::{Check, Claim, ContainerName, Entry};

/// A check whether `address` accepts a connection.
pub fn check(address: &str) -> Check {
    Check {
        probe: Some(Probe {
            address: address.into(),
            kind: Kind::Tcp(Tcp::default()),
        }),
        uptime: Duration::ZERO,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 3,
    }
}

/// A container with one key for each of these checks, and one without a check if it has none.
fn claim(name: &str, checks: &[Option<&Arc<Check>>]) -> Arc<Claim> {
    let entry = |(number, check): (usize, Option<&Arc<Check>>)| Entry {
        key: format!("/backends/{name}/{number}").into(),
        value: "1".into(),
        ttl: 60,
        shared: false,
        check: check.cloned(),
    };
    Arc::new(Claim {
        who: ContainerName {
            id: name.into(),
            name: name.into(),
        },
        age: "1".into(),
        entries: checks.iter().copied().enumerate().map(entry).collect(),
        unproven: [].into(),
    })
}
