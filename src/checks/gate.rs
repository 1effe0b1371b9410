//! Lets through the entries whose checks pass. Pure: it is told the time and the verdicts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Judged, Order, Target, TargetId};
use crate::base::by_age::{ByAge, Rank, Ranked as _};
use crate::wanted::{Check, Claim, Entry, Wanted};

/// Its cost grows with what changes, not with what is wanted.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The last wanted state.
    wanted: Option<Arc<Wanted>>,
    /// The claims with checks, by container.
    checked: HashMap<Arc<str>, Checked>,
    /// The container of each target.
    containers: HashMap<TargetId, Arc<str>>,
    /// The claims of `wanted`, without the entries whose check does not pass.
    claims: ByAge<Claim>,
    last_id: u64,
}

/// A claim with checks.
#[derive(Debug)]
struct Checked {
    claim: Arc<Claim>,
    /// When its container was started, as Docker wrote it.
    started: String,
    targets: HashMap<Arc<Check>, (TargetId, Option<bool>)>,
}

impl Gate {
    /// Takes over a new wanted state. Returns the checks that begin and end.
    pub fn want(&mut self, wanted: &Arc<Wanted>, now: Timestamp) -> Vec<Order> {
        let is_first = self.wanted.is_none();
        let before = self.wanted.replace(Arc::clone(wanted)).unwrap_or_default();
        let mut orders = Vec::new();
        for change in before.claims.changes(&wanted.claims) {
            let claim = match change.new {
                Some(claim) if claim.entries.iter().any(|entry| entry.check.is_some()) => claim,
                unchecked => {
                    self.end(&change.rank.id, &mut orders);
                    match unchecked {
                        Some(claim) => self.claims.insert(claim),
                        None => self.claims.remove(&change.rank),
                    }
                    continue;
                }
            };
            self.check(&claim, wanted, now, is_first, &mut orders);
        }
        // A container that is started again may want the same as before.
        let restarted = if self.checked.is_empty() {
            Vec::new()
        } else {
            before.running.changes(&wanted.running)
        };
        for change in restarted {
            if let Some(checked) = self.checked.get(&change.rank.id)
                && checked.started != started(wanted, &change.rank)
            {
                let claim = Arc::clone(&checked.claim);
                self.check(&claim, wanted, now, is_first, &mut orders);
            }
        }
        orders
    }

    /// Takes over a verdict. Returns whether the entries that are let through have changed.
    pub fn judge(&mut self, judged: Judged) -> bool {
        let id = self.containers.get(&judged.id);
        let Some(checked) = id.and_then(|id| self.checked.get_mut(id)) else {
            return false; // It has ended meanwhile.
        };
        for (id, verdict) in checked.targets.values_mut() {
            if *id == judged.id {
                *verdict = Some(judged.passes);
            }
        }
        let left = checked.left();
        self.claims.insert(left);
        true
    }

    /// The wanted state without the entries whose check does not pass.
    pub fn left(&self) -> Arc<Wanted> {
        let wanted = self.wanted.clone().unwrap_or_default();
        if self.checked.is_empty() {
            return wanted;
        }
        Arc::new(Wanted {
            claims: self.claims.clone(),
            ..Wanted::clone(&wanted)
        })
    }

    /// Follows a claim with checks. Its checks of before go on, unless its container has been started again.
    fn check(
        &mut self,
        claim: &Arc<Claim>,
        wanted: &Wanted,
        now: Timestamp,
        is_first: bool,
        orders: &mut Vec<Order>,
    ) {
        let id = &claim.who.id;
        let started = started(wanted, &claim.rank());
        let mut known = match self.checked.remove(id) {
            Some(known) if known.started == started => known.targets,
            Some(known) => {
                self.end_all(known.targets, orders);
                HashMap::new()
            }
            None => HashMap::new(),
        };
        let mut targets = HashMap::new();
        for check in claim
            .entries
            .iter()
            .filter_map(|entry| entry.check.as_ref())
        {
            if targets.contains_key(check) {
                continue;
            }
            let target = known.remove(check).unwrap_or_else(|| {
                self.last_id += 1;
                let id = TargetId(self.last_id);
                self.containers.insert(id, Arc::clone(&claim.who.id));
                let not_before = not_before(check, &started, now);
                orders.push(Order::Begin {
                    id,
                    target: Target {
                        who: claim.who.clone(),
                        check: Arc::clone(check),
                        not_before,
                    },
                    // At a start of this program, the keys in the store stay meanwhile.
                    at_once: !is_first,
                });
                (id, (!not_before.is_zero()).then_some(false))
            });
            targets.insert(Arc::clone(check), target);
        }
        self.end_all(known, orders);
        let checked = Checked {
            claim: Arc::clone(claim),
            started,
            targets,
        };
        self.claims.insert(checked.left());
        self.checked.insert(Arc::clone(id), checked);
    }

    /// Ends the checks of a container, if it has any.
    fn end(&mut self, id: &Arc<str>, orders: &mut Vec<Order>) {
        if let Some(checked) = self.checked.remove(id) {
            self.end_all(checked.targets, orders);
        }
    }

    fn end_all(
        &mut self,
        targets: HashMap<Arc<Check>, (TargetId, Option<bool>)>,
        orders: &mut Vec<Order>,
    ) {
        for (id, _) in targets.into_values() {
            self.containers.remove(&id);
            orders.push(Order::End(id));
        }
    }
}

impl Checked {
    /// The claim with the entries whose check passes, and those whose check has no verdict yet apart.
    fn left(&self) -> Arc<Claim> {
        let verdict = |entry: &Entry| match &entry.check {
            None => Some(true),
            Some(check) => self.targets.get(check).and_then(|(_, verdict)| *verdict),
        };
        let having = |wanted: Option<bool>| -> Arc<[Entry]> {
            let entries = self.claim.entries.iter();
            let entries = entries.filter(|entry| verdict(entry) == wanted);
            entries.cloned().collect()
        };
        let entries = having(Some(true));
        if entries.len() == self.claim.entries.len() {
            return Arc::clone(&self.claim);
        }
        Arc::new(Claim {
            who: self.claim.who.clone(),
            age: Arc::clone(&self.claim.age),
            entries,
            unproven: having(None),
        })
    }
}

/// When a container was started, as Docker wrote it; empty for the host.
fn started(wanted: &Wanted, rank: &Rank) -> String {
    let container = wanted.running.get(rank);
    container.map_or_else(String::new, |container| container.started.clone())
}

/// The time until the container has run for long enough. If Docker's clock is ahead, it is reckoned from now on.
fn not_before(check: &Check, started: &str, now: Timestamp) -> Duration {
    if check.uptime.is_zero() {
        return Duration::ZERO;
    }
    let started: Option<Timestamp> = started.parse().ok();
    let ran = started.map_or(Duration::ZERO, |started| {
        now.duration_since(started)
            .try_into()
            .unwrap_or(Duration::ZERO)
    });
    check.uptime.saturating_sub(ran)
}
