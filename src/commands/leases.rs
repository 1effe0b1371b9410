//! `leases`: prints the registrars that the store knows of, by their leases.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::anyhow;
use serde_json::json;
use tracing::{debug, warn};

use super::{columns, print};
use crate::docker::Daemon;
use crate::store::{self, AnyStore, Found, Identity, Lease, LeaseId, Store, StoreError};

/// The time limit of each call.
const CALL: Duration = Duration::from_secs(5);
/// The most addresses in a line.
const MOST_ADDRESSES: usize = 4;

/// The settings of the commands about leases.
pub struct Settings {
    pub store: store::Settings,
    /// `--instance` of the registrar that is this host's.
    pub instance: String,
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    Text,
    Json,
}

/// One lease of a registrar's own keys, or its seat if it has no key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Registrar {
    pub lease: LeaseId,
    /// The TTL that the lease was granted with, in seconds.
    ttl: u32,
    /// The seconds until it expires, if nobody renews it.
    pub left: u32,
    pub keys: usize,
    /// The addresses in the values of its keys; none if the user may not read them.
    addresses: Option<BTreeSet<IpAddr>>,
    /// Whether it has its seat: it runs, or was killed less than a minute ago.
    pub runs: bool,
    /// Whether it is this host's; none if Docker does not tell.
    is_this: Option<bool>,
}

/// Prints the registrars.
pub async fn run(settings: Settings, out: &mut impl Write) -> anyhow::Result<bool> {
    let registrars = list(&mut open(&settings.store), &settings.instance).await?;
    let text = match settings.format {
        Format::Text => table(&registrars),
        Format::Json => {
            let all: serde_json::Value = registrars.iter().map(Registrar::json).collect();
            format!("{all:#}\n")
        }
    };
    print(text.as_bytes(), "leases", out)?;
    Ok(true)
}

pub(super) fn open(store: &store::Settings) -> AnyStore {
    store.open(CALL)
}

/// All registrars that the store knows of, by lease.
pub(super) async fn list(store: &mut impl Store, instance: &str) -> anyhow::Result<Vec<Registrar>> {
    let this = match Daemon::ask().await {
        Ok(daemon) => Some(Identity::new(&daemon.id, instance)),
        Err(error) => {
            warn!("{error:#}; so it is not known which registrar is this host's");
            None
        }
    };
    let registrars = store::ask_any(store, async |store| read(store, this).await).await;
    registrars.map_err(|error| anyhow!("{error}"))
}

async fn read(
    store: &mut impl Store,
    this: Option<Identity>,
) -> Result<Vec<Registrar>, StoreError> {
    let mut ids: Vec<LeaseId> = store.leases().await?;
    ids.retain(|lease| Identity::of(*lease).is_some());
    ids.sort_unstable();
    let mut registrars = Vec::new();
    for of_one in ids.chunk_by(|a, b| Identity::of(*a) == Identity::of(*b)) {
        let mut leases = Vec::new();
        for id in of_one {
            // It may have expired meanwhile.
            if let Some(lease) = store.lookup(*id).await? {
                leases.push((*id, lease));
            }
        }
        for (id, lease, runs) in of_a_registrar(leases) {
            let found = match store.read(&lease.keys).await {
                Ok(found) => Some(found),
                Err(StoreError::Refused(error)) => {
                    debug!("cannot read the keys on lease {id}: {error:#}");
                    None
                }
                Err(error) => return Err(error),
            };
            registrars.push(Registrar {
                lease: id,
                ttl: lease.granted,
                left: lease.remaining,
                keys: lease.keys.len(),
                addresses: found.as_deref().map(addresses),
                runs,
                is_this: this.map(|this| Identity::of(id) == Some(this)),
            });
        }
    }
    Ok(registrars)
}

/// Of the leases of one identity, sorted, those of a registrar's keys, and whether it has its seat. The leases of other
/// programs have ids by chance, in which the TTL is another one than theirs.
fn of_a_registrar(mut leases: Vec<(LeaseId, Lease)>) -> Vec<(LeaseId, Lease, bool)> {
    let is_seat = |(id, lease): &(LeaseId, Lease)| id.ttl() == 0 && lease.keys.is_empty();
    // Its id is the smallest.
    let runs = leases.first().is_some_and(is_seat);
    leases.retain(|(id, lease)| runs || id.ttl() == lease.granted);
    if leases.len() > 1 && runs {
        leases.remove(0);
    }
    let leases = leases.into_iter();
    leases.map(|(id, lease)| (id, lease, runs)).collect()
}

/// The IP addresses in values, which may be addresses with ports, URLs or JSON.
fn addresses(found: &[Found]) -> BTreeSet<IpAddr> {
    let is_of_an_address = |c: char| c.is_ascii_alphanumeric() || ".:[]".contains(c);
    let words = found
        .iter()
        .flat_map(|found| found.value.split(|c| !is_of_an_address(c)));
    let address = |word: &str| {
        let with_port = word.parse().map(|address: SocketAddr| address.ip());
        with_port.or_else(|_| word.parse()).ok()
    };
    // Times and other numbers with colons are no addresses, but `::` is one.
    let addresses = words.filter_map(address);
    addresses
        .filter(|ip: &IpAddr| !ip.is_unspecified())
        .collect()
}

fn table(registrars: &[Registrar]) -> String {
    let head = ["LEASE", "TTL", "LEFT", "KEYS", "ADDRESSES", "REGISTRAR"].map(str::to_owned);
    let rows = registrars.iter().map(|registrar| {
        let Registrar {
            lease,
            ttl,
            left,
            keys,
            ..
        } = registrar;
        [
            lease.to_string(),
            format!("{ttl} s"),
            format!("{left} s"),
            keys.to_string(),
            registrar.shown_addresses(),
            registrar.state(),
        ]
    });
    columns(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

impl Registrar {
    /// The addresses in words.
    pub(super) fn shown_addresses(&self) -> String {
        let Some(addresses) = &self.addresses else {
            return "not readable by this user".to_owned();
        };
        let shown = addresses.iter().take(MOST_ADDRESSES);
        let mut shown: Vec<String> = shown.map(ToString::to_string).collect();
        match addresses.len() {
            0 => "none".to_owned(),
            all => {
                let more = all.saturating_sub(MOST_ADDRESSES);
                shown.extend((more > 0).then(|| format!("{more} more")));
                shown.join(", ")
            }
        }
    }

    fn state(&self) -> String {
        let state = if self.runs { "runs" } else { "ended" };
        let this = match self.is_this {
            Some(true) => ", this one",
            Some(false) | None => "",
        };
        format!("{state}{this}")
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "lease": self.lease.to_string(),
            "ttl": self.ttl,
            "left": self.left,
            "keys": self.keys,
            "addresses": self.addresses,
            "runs": self.runs,
            "this": self.is_this,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::On;

    fn lease(id: i64, granted: u32, keys: &[&str]) -> (LeaseId, Lease) {
        let lease = Lease {
            keys: keys.iter().map(|key| (*key).into()).collect(),
            granted,
            remaining: 1,
            term: 1,
        };
        (LeaseId(id), lease)
    }

    fn kept(leases: Vec<(LeaseId, Lease)>) -> Vec<(i64, bool)> {
        let kept = of_a_registrar(leases).into_iter();
        kept.map(|(id, _, runs)| (id.0, runs)).collect()
    }

    #[test]
    fn the_leases_of_other_programs_are_left_out() {
        let of = 1 << 20;
        assert_eq!(kept(vec![lease(of + 60, 60, &["/a"])]), [(of + 60, false)]);
        assert_eq!(kept(vec![lease(of + 61, 60, &["/a"])]), vec![]);
        // A seat alone is a registrar without keys; another program's lease has keys.
        assert_eq!(kept(vec![lease(of, 60, &[])]), [(of, true)]);
        assert_eq!(kept(vec![lease(of, 60, &["/a"])]), vec![]);
        // etcd grants no shorter leases than two seconds.
        let all = vec![
            lease(of, 2, &[]),
            lease(of + 1, 2, &["/a"]),
            lease(of + 9, 9, &[]),
        ];
        assert_eq!(kept(all), [(of + 1, true), (of + 9, true)]);
    }

    #[test]
    fn addresses_are_found_in_values_of_any_form() {
        let found = |value: &str| Found {
            key: "/k".into(),
            value: value.into(),
            on: On::Nothing,
            created: 1,
            revision: 1,
        };
        let values = [
            "10.0.0.2:80",
            "[fd00::1]:80",
            r#"{"host":"10.0.0.1","port":8005,"at":"12:30:05"}"#,
            "http://10.0.0.3:80/x",
            "8005",
            "::",
        ];
        let all = addresses(&values.map(found));
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"]);
    }
}
