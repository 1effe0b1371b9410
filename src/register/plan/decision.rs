//! The decision table, for one key.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::KeyChange;
use super::marks::Match;
use super::want::Want;
use super::{InStore, Note, Plan, Record};
use crate::base::key::Key;
use crate::register::timetable::SHARED_MARGIN;
use crate::store::{LeaseId, On};
use crate::wanted::Entry;

pub(super) enum Decision {
    Nothing,
    /// Nothing for now: the keys that replace this one are still on other registrars' leases.
    Later,
    /// A shared key on this lease that we hold and no longer want.
    Idle(LeaseId),
    Change(KeyChange),
    /// A change that waits for all puts, because the key may belong to a running container.
    AfterPuts(KeyChange),
}

/// The containers that have been asked about in one planning, and whether each wants owned keys, and all of them are on
/// other registrars' leases.
pub(super) type Blocked = HashMap<Arc<str>, bool>;

impl Plan {
    /// The decision for a key, and a note for the operator.
    pub(super) fn decide(&self, key: &Key, blocked: &mut Blocked) -> (Decision, Option<Note>) {
        let unknown = Record::default();
        let known = self.known.get(key).unwrap_or(&unknown);
        match self.wants.winner_and_rivals(key) {
            None => (self.decide_unwanted(key, known, blocked), None),
            Some((want, rivals)) => {
                let (decision, note) = self.decide_wanted(known, want);
                let collision = rivals.iter().find(|rival| {
                    let (entry, other) = (&want.entry, &rival.entry);
                    let same =
                        Arc::ptr_eq(&other.value, &entry.value) || other.value == entry.value;
                    !same || other.shared != entry.shared
                });
                let side = |want: &Want| (want.who.clone(), Arc::clone(&want.entry.value));
                let collision = collision.map(|rival| Note::Collision {
                    key: Arc::clone(key),
                    kept: side(want),
                    refused: side(rival),
                    shared: want.entry.shared && rival.entry.shared,
                });
                let note = match note {
                    Some(Note::Foreign { .. }) => note,
                    _ => collision.or(note),
                };
                (decision, note)
            }
        }
    }

    fn decide_unwanted(&self, key: &Key, known: &Record, blocked: &mut Blocked) -> Decision {
        let delete = |lease: &LeaseId| KeyChange::delete(key, *lease, known.owner.clone());
        match &known.state {
            InStore::Ours { value, .. } if self.unproven.owner(key, value).is_some() => {
                Decision::Nothing
            }
            InStore::Ours { lease, .. } if !self.identity.owns(*lease) => Decision::Idle(*lease),
            InStore::Ours { lease, value } => match &known.owner {
                Some(owner) if self.is_blocked(&owner.id, blocked) => Decision::Later,
                Some(_) => Decision::Change(delete(lease)),
                None if self.protected.is_in(key) || self.protected.is_in(value) => {
                    Decision::Nothing
                }
                None => match self.running().find(key, value) {
                    Match::Known if !self.alone => Decision::Nothing,
                    Match::Other if !self.alone && !self.knows_outside() => Decision::Nothing,
                    Match::Other => Decision::Change(delete(lease)),
                    Match::Known | Match::Unclear if self.may_be_hosts() => Decision::Nothing,
                    Match::Known | Match::Unclear => Decision::AfterPuts(delete(lease)),
                },
            },
            _ => Decision::Nothing,
        }
    }

    fn decide_wanted(&self, known: &Record, want: &Want) -> (Decision, Option<Note>) {
        let Want { entry, who, .. } = want;
        let key = || Arc::clone(&entry.key);
        let lease = self.lease_of(entry);
        let put = |value: &Arc<str>, at| {
            Decision::Change(KeyChange::replace(&entry.key, value, lease, at, who))
        };
        let foreign = |on| Note::Foreign {
            key: key(),
            who: who.clone(),
            on,
        };
        match &known.state {
            InStore::Missing => (Decision::Change(KeyChange::create(entry, lease, who)), None),
            InStore::Loose { value } => {
                let note = Note::Leftover {
                    key: key(),
                    who: who.clone(),
                };
                (
                    Decision::Change(KeyChange::take(entry, lease, value, who)),
                    Some(note),
                )
            }
            InStore::Former { lease: at } => (put(&entry.value, *at), None),
            InStore::Ours { value, lease: at } if self.identity.owns(*at) => {
                let same = *at == lease && *value == entry.value;
                (
                    if same {
                        Decision::Nothing
                    } else {
                        put(&entry.value, *at)
                    },
                    None,
                )
            }
            InStore::Ours { value, lease: at } if entry.shared => {
                let ours_is_new = known.agreed.as_ref() != Some(&entry.value);
                let differs = (*value != entry.value && !ours_is_new).then(|| Note::Differs {
                    key: key(),
                    wanted: Arc::clone(&entry.value),
                    found: Arc::clone(value),
                });
                let wanted = if ours_is_new { &entry.value } else { value };
                let is_left = at.ttl() > lease.ttl() && self.is_abandoned(*at);
                let decision = if at.ttl() < lease.ttl() || is_left {
                    put(wanted, *at)
                } else if wanted == value {
                    Decision::Nothing
                } else {
                    Decision::Change(KeyChange::replace(&entry.key, wanted, *at, *at, who))
                };
                (decision, differs)
            }
            InStore::Ours { lease: at, .. } if self.is_abandoned(*at) => {
                (put(&entry.value, *at), None)
            }
            // A key that is wanted as owned but is on its shared lease belongs to the registrars that renew the lease.
            InStore::Ours { lease: at, .. } => (Decision::Nothing, Some(foreign(On::Lease(*at)))),
            InStore::Foreign { on } => (Decision::Nothing, Some(foreign(on.clone()))),
        }
    }

    /// The lease of an entry. A shared key has the longest TTL that any container wants for it.
    pub(super) fn lease_of(&self, entry: &Entry) -> LeaseId {
        if entry.shared {
            let ttl = self.wants.longest_shared_ttl(&entry.key).max(entry.ttl);
            LeaseId::shared(&entry.key, ttl + SHARED_MARGIN)
        } else {
            self.identity.lease(entry.ttl)
        }
    }

    /// Whether a held key that nobody has claimed may be one of the host's own.
    fn may_be_hosts(&self) -> bool {
        let wanted = self.wanted.as_ref();
        wanted.is_some_and(|wanted| wanted.host_is_unknown)
    }

    /// Whether the containers that do not pass the filters are known.
    fn knows_outside(&self) -> bool {
        let wanted = self.wanted.as_ref();
        wanted.is_some_and(|wanted| wanted.outside.is_some())
    }

    fn is_blocked(&self, id: &Arc<str>, blocked: &mut Blocked) -> bool {
        if self.notes.is_empty() {
            return false;
        }
        if let Some(known) = blocked.get(id) {
            return *known;
        }
        let claim = self.claims.get(id);
        let entries = claim.map_or(&[][..], |claim| &*claim.entries);
        let mut owned = entries.iter().filter(|entry| !entry.shared).peekable();
        let is_foreign =
            |entry: &Entry| matches!(self.notes.get(&entry.key), Some(Note::Foreign { .. }));
        let is_blocked = owned.peek().is_some() && owned.all(is_foreign);
        blocked.insert(Arc::clone(id), is_blocked);
        is_blocked
    }
}
