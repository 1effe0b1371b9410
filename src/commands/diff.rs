//! `diff`: compares the keys in the store with the keys that should be there. It reports the changes that `run` would make,
//! by `run`'s own plan, and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;
use tracing::{debug, warn};

use super::{decide, print, warn_of_collisions};
use crate::base::key::{Key, directory};
use crate::checks;
use crate::docker::{self, Daemon};
use crate::register::plan::{Note, Plan};
use crate::register::timetable::SHARED_MARGIN;
use crate::register::{HostSettings, host_ip_or_loopback};
use crate::store::{self, Found, Identity, LeaseId, On, Step, Store, StoreError};
use crate::wanted::{Entry, Wanted};

/// One key that differs.
struct Difference {
    kind: Kind,
    key: Key,
    wanted: Option<Arc<str>>,
    /// The entry that counts for the key.
    entry: Option<Entry>,
    found: Option<Found>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It should exist.
    Missing,
    /// It exists with another value, on another lease of ours, or on no lease.
    Different,
    /// It should not exist: it is on a lease of ours, or on none, so that it would never expire.
    Stale,
    /// It is on a lease that is neither ours nor shared.
    Held,
    /// It does not exist, and should if its check passes, which has not been made. This is no difference.
    Unproven,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

pub struct Settings {
    pub host: HostSettings,
    pub format: Format,
    /// Whether the checks are made.
    pub check: bool,
}

/// Prints the differences. Returns whether there are none, apart from unproven keys, and the policy failed for no container.
pub async fn run(settings: Settings, out: &mut impl Write) -> anyhow::Result<bool> {
    let Settings {
        mut host,
        format,
        check,
    } = settings;
    host_ip_or_loopback(&mut host).await;
    let snapshot = docker::look_once(host.filters.clone()).await?;
    let identity = Identity::new(&Daemon::ask().await?.id, &host.options.instance);
    let decided = decide(&host, snapshot).await?;
    let mut plan = Plan::new(identity);
    let wanted = if check {
        super::check(&decided.wanted).await
    } else {
        checks::unproven(&decided.wanted)
    };
    plan.want(&wanted);
    plan.set_alone(true);
    let mut store = host.connect();
    let found = store::ask_any(&mut store, async |store| {
        read(store, &host, identity, &plan).await
    });
    let found = found.await.map_err(|error| anyhow!("{error}"))?;
    let mut differences = compare(&mut plan, &found);
    let in_step = differences.is_empty();
    differences.extend(unproven(&wanted, &plan, &found));
    differences.sort_by(|a, b| a.key.cmp(&b.key));
    warn_of_collisions(&decided.wanted);
    let text = match format {
        Format::Json => {
            let list: serde_json::Value = differences.iter().map(Difference::json).collect();
            format!("{list:#}\n")
        }
        Format::Text => differences.iter().map(Difference::text).collect(),
    };
    print(text.as_bytes(), "differences", out)?;
    Ok(decided.say(false) && in_step)
}

/// Reads the keys that are wanted, on our leases, in the directory of a key that is to be removed, or below the prefix.
async fn read(
    store: &mut impl Store,
    host: &HostSettings,
    identity: Identity,
    plan: &Plan,
) -> Result<BTreeMap<Key, Found>, StoreError> {
    let mut leases: BTreeSet<LeaseId> = plan
        .entries()
        .map(|(entry, _)| identity.lease(entry.ttl))
        .collect();
    match store.leases().await {
        Ok(all) => leases.extend(all.into_iter().filter(|lease| identity.owns(*lease))),
        Err(StoreError::Refused(error)) => debug!("cannot list all leases: {error:#}"),
        Err(error) => return Err(error),
    }
    let mut keys: BTreeSet<Key> = plan.wanted_keys().cloned().collect();
    for lease in leases {
        keys.extend(
            store
                .lookup(lease)
                .await?
                .map_or(Vec::new(), |lease| lease.keys),
        );
    }
    let directories: BTreeSet<Arc<str>> = keys
        .iter()
        .filter(|key| !plan.wants(key))
        .map(|key| directory(key).into())
        .collect();
    let directories: Vec<Arc<str>> = directories.into_iter().collect();
    keys.extend(
        store
            .leased_in(&directories)
            .await?
            .into_iter()
            .map(|(key, _)| key),
    );
    let mut found = store.read(&keys.into_iter().collect::<Vec<_>>()).await?;
    let prefix = format!("{}/", host.options.prefix);
    found.extend(store.scan(&prefix).await?.keys);
    Ok(found
        .into_iter()
        .map(|found| (Arc::clone(&found.key), found))
        .collect())
}

fn compare(plan: &mut Plan, found: &BTreeMap<Key, Found>) -> Vec<Difference> {
    plan.learn(found.values().cloned().collect());
    let mut differences: BTreeMap<Key, (Kind, Option<Arc<str>>)> = BTreeMap::new();
    for batch in plan.batches(usize::MAX, false) {
        for step in batch.transaction.steps {
            match step {
                Step::Put(key, value, _) => {
                    let kind = if found.contains_key(&key) {
                        Kind::Different
                    } else {
                        Kind::Missing
                    };
                    differences.insert(key, (kind, Some(value)));
                }
                Step::Delete(key) => drop(differences.insert(key, (Kind::Stale, None))),
                Step::Sweep(sweep) if sweep.holds(found) => {
                    let keys = sweep.keys.into_iter().map(|(key, _)| key);
                    differences.extend(keys.map(|key| (key, (Kind::Stale, None))));
                }
                Step::Sweep(_) => {}
            }
        }
    }
    for note in plan.notes() {
        match note {
            Note::Foreign { key, .. } => drop(differences.insert(key, (Kind::Held, None))),
            Note::Collision { .. } => warn!("{note}"),
            Note::Leftover { .. } | Note::Differs { .. } => {}
        }
    }
    // Keys on no lease never expire.
    let loose = found
        .values()
        .filter(|found| found.on == On::Nothing && !plan.wants(&found.key));
    differences.extend(loose.map(|found| (Arc::clone(&found.key), (Kind::Stale, None))));
    let wants: BTreeMap<&Key, &Entry> = plan
        .entries()
        .map(|(entry, _)| (&entry.key, entry))
        .collect();
    let difference = |(key, (kind, wanted)): (Key, (Kind, Option<Arc<str>>))| Difference {
        kind,
        wanted: wanted.or_else(|| wants.get(&key).map(|entry| Arc::clone(&entry.value))),
        entry: wants.get(&key).copied().cloned(),
        found: found.get(&key).cloned(),
        key,
    };
    differences.into_iter().map(difference).collect()
}

/// The keys that do not exist, and should if their check passes.
fn unproven(wanted: &Wanted, plan: &Plan, found: &BTreeMap<Key, Found>) -> Vec<Difference> {
    let claims = wanted.claims.iter();
    let entries: BTreeMap<&Key, &Entry> = claims
        .flat_map(|claim| claim.unproven.iter())
        .map(|entry| (&entry.key, entry))
        .collect();
    let is_absent = |key: &Key| !found.contains_key(key) && !plan.wants(key);
    let absent = entries.into_iter().filter(|(key, _)| is_absent(key));
    let difference = |(key, entry): (&Key, &Entry)| Difference {
        kind: Kind::Unproven,
        key: Arc::clone(key),
        wanted: Some(Arc::clone(&entry.value)),
        entry: Some(entry.clone()),
        found: None,
    };
    absent.map(difference).collect()
}

impl Difference {
    fn text(&self) -> String {
        let found = self.found.as_ref().map_or("", |found| &found.value);
        let wanted = self.wanted.as_deref().unwrap_or_default();
        let lease = self.found.as_ref().and_then(Found::lease);
        let what = match (self.kind, lease) {
            (Kind::Missing, _) => format!("should be {wanted}"),
            (Kind::Different, _) if found != wanted => format!("is {found}, should be {wanted}"),
            (Kind::Different, Some(lease)) => {
                format!("is {found} as it should be, {}", self.wrong_lease(lease))
            }
            (Kind::Different, None) => format!("is {found} as it should be, but on no lease"),
            (Kind::Stale, Some(_)) => format!("is {found}, should not be there"),
            (Kind::Stale, None) => format!("is {found}, on no lease, so it never expires"),
            (Kind::Unproven, _) => {
                let check = self.entry.as_ref().and_then(|entry| entry.check.as_ref());
                let check = check.map_or(String::new(), ToString::to_string);
                format!("should be {wanted} if its check passes ({check}): --check makes it")
            }
            (Kind::Held, Some(lease)) => {
                format!("is {found} on somebody else's lease {lease}, should be {wanted}")
            }
            (Kind::Held, None) => {
                let on = self.found.as_ref().map(|found| format!(", {}", found.on));
                let on = on.unwrap_or_default();
                format!("is {found}{on}, which is not this registrar's; should be {wanted}")
            }
        };
        format!("{:<9} {} {what}\n", self.kind.name(), self.key)
    }

    /// How the lease of a key with the wanted value is another one than the wanted.
    fn wrong_lease(&self, lease: LeaseId) -> String {
        let Some(Entry { ttl, shared, .. }) = &self.entry else {
            return format!("with a TTL of {} s", lease.ttl());
        };
        match (lease.is_shared_for(&self.key), shared) {
            (true, false) => "but shared with other hosts, which it should not be".to_owned(),
            (false, true) => "but not shared with other hosts, which it should be".to_owned(),
            (true, true) => {
                let found = lease.ttl().saturating_sub(SHARED_MARGIN);
                format!("with a TTL of {found} s, which should be {ttl} s")
            }
            (false, false) => format!("with a TTL of {} s, which should be {ttl} s", lease.ttl()),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "kind": self.kind.name(),
            "key": &*self.key,
            "wanted": self.wanted.as_deref(),
            "ttl": self.entry.as_ref().map(|entry| entry.ttl),
            "found": self.found.as_ref().map(|found| &*found.value),
            "lease": self.found.as_ref().and_then(Found::lease).map(|lease| lease.to_string()),
        })
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Different => "different",
            Self::Stale => "stale",
            Self::Held => "held",
            Self::Unproven => "unproven",
        }
    }
}
