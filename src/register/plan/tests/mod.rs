//! The plan, as the keeper calls it.

mod cost;
mod decisions;
mod shared;
mod transactions;
mod unclaimed;

use super::*;
use crate::store::etcd::MAX_OPERATIONS;
use crate::store::{Found, Guard, On, Outcome, Transaction};

const TTL: u32 = 60;

fn identity() -> Identity {
    Identity::new("daemon", "")
}

fn own() -> LeaseId {
    identity().lease(TTL)
}

fn owned(key: &str, value: &str) -> Entry {
    Entry {
        key: key.into(),
        value: value.into(),
        ttl: TTL,
        shared: false,
        check: None,
    }
}

fn shared(key: &str, value: &str) -> Entry {
    Entry {
        shared: true,
        ..owned(key, value)
    }
}

/// A claim. A container whose name sorts first is older.
fn claim(name: &str, entries: &[Entry]) -> Claim {
    Claim {
        who: ContainerName {
            id: name.into(),
            name: name.into(),
        },
        age: name.into(),
        entries: entries.into(),
        unproven: [].into(),
    }
}

fn wanted(claims: &[Claim]) -> Arc<Wanted> {
    wanted_beside(claims, Vec::new())
}

fn wanted_beside(claims: &[Claim], protected: Vec<String>) -> Arc<Wanted> {
    Arc::new(Wanted {
        claims: claims.iter().cloned().map(Arc::new).collect(),
        protected,
        ..Wanted::default()
    })
}

fn found(key: &str, value: &str, lease: Option<LeaseId>) -> Found {
    Found {
        key: key.into(),
        value: value.into(),
        on: lease.into(),
        created: 7,
        revision: 7,
    }
}

/// The member and the port of a container in one directory.
fn web(name: &str) -> Claim {
    claim(
        name,
        &[
            owned(&format!("/b/web/1/{name}"), "1.2.3.4:80"),
            shared("/b/web/1/port", "80"),
        ],
    )
}

/// A plan that wants `claims` and finds `found`.
fn plan(claims: &[Claim], found: &[Found]) -> Plan {
    let mut plan = Plan::new(identity());
    plan.want(&wanted(claims));
    plan.learn(found.to_vec());
    plan
}

/// The next transaction, which is the only one.
fn only(plan: &mut Plan) -> Transaction {
    let mut batches = plan.batches(MAX_OPERATIONS, false);
    assert_eq!(batches.len(), 1, "{batches:#?}");
    batches.remove(0).transaction
}

/// Carries out all transactions, as a store in which every guard holds and every sweep succeeds.
fn carry_out_all(plan: &mut Plan) {
    for batch in plan.batches(MAX_OPERATIONS, false) {
        let swept = batch.transaction.steps.iter().flat_map(|step| match step {
            Step::Sweep(sweep) => sweep.keys.iter().map(|(key, _)| Arc::clone(key)).collect(),
            _ => Vec::new(),
        });
        let outcome = Outcome::Done {
            swept: swept.collect(),
        };
        plan.done(&batch, &outcome);
    }
    assert_is_settled(plan);
}

fn assert_is_settled(plan: &mut Plan) {
    let batches = plan.batches(MAX_OPERATIONS, false);
    assert!(batches.is_empty(), "{batches:#?}");
}

fn put(key: &str, value: &str, lease: LeaseId) -> Step {
    Step::Put(key.into(), value.into(), lease)
}

fn notes(plan: &mut Plan) -> Vec<String> {
    plan.notes().iter().map(Note::to_string).collect()
}

fn steps(batches: &[Batch]) -> Vec<Vec<Step>> {
    let steps = batches.iter().map(|batch| batch.transaction.steps.clone());
    steps.collect()
}

fn delete(key: &str) -> Step {
    Step::Delete(key.into())
}
