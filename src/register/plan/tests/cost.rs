//! The cost of planning grows with the number of keys, whatever their number is. It is measured as this thread's CPU
//! time, for a number of keys and for eight times as many: a quadratic step would take 64 times as long.

use std::collections::VecDeque;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::*;

const FEW: usize = 1500;
const TIMES: usize = 8;
/// The most that the larger number may take, as a multiple of the time for the smaller one.
const LIMIT: u32 = 30;

/// A container with a member and a `port` key for each port.
fn container(name: &str, ports: usize) -> Claim {
    let entries = (0..ports).flat_map(|port| {
        [
            owned(&format!("/b/{name}/{port}/member"), "1.2.3.4:80"),
            shared(&format!("/b/{name}/{port}/port"), "80"),
        ]
    });
    claim(name, &entries.collect::<Vec<_>>())
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().expect("a thread's time is not negative")
}

/// Asserts that the time of `step` grows with the number of ports. It is called with a plan that `prepare` made.
#[track_caller]
fn assert_is_linear<T>(prepare: impl Fn(usize) -> T, step: impl Fn(&mut T)) {
    let least = |ports: usize| {
        let times = (0..3).map(|_| {
            let mut prepared = prepare(ports);
            let begun = cpu_time();
            step(&mut prepared);
            cpu_time().saturating_sub(begun)
        });
        times.min().expect("some times")
    };
    let (few, many) = (least(FEW), least(TIMES * FEW));
    assert!(
        many < LIMIT * few,
        "{FEW} ports take {few:?}, {TIMES} times as many take {many:?}"
    );
}

/// Carries out batches, as a store in which every guard holds and every sweep succeeds.
fn carry_out(plan: &mut Plan, batches: Vec<Batch>) {
    for batch in batches {
        let swept = batch.transaction.steps.iter().flat_map(|step| match step {
            Step::Sweep(sweep) => sweep.keys.iter().map(|(key, _)| Arc::clone(key)).collect(),
            _ => Vec::new(),
        });
        let swept = swept.collect();
        plan.done(&batch, &Outcome::Done { swept });
    }
}

fn held(ports: usize) -> Plan {
    let mut plan = plan(&[container("a", ports)], &[]);
    carry_out_all(&mut plan);
    plan
}

#[test]
fn puts_of_a_large_container() {
    for max_operations in [MAX_OPERATIONS, usize::MAX] {
        assert_is_linear(
            |ports| plan(&[container("a", ports)], &[]),
            |plan| {
                let batches = plan.batches(max_operations, false);
                carry_out(plan, batches);
                assert_is_settled(plan);
            },
        );
    }
}

#[test]
fn deletes_and_sweeps_of_a_large_container() {
    for max_operations in [MAX_OPERATIONS, usize::MAX] {
        assert_is_linear(held, |plan| {
            plan.want(&wanted(&[]));
            let batches = plan.batches(max_operations, false);
            let sweeps = batches.iter().flat_map(|batch| &batch.transaction.steps);
            assert!(sweeps.filter(|step| matches!(step, Step::Sweep(_))).count() >= FEW);
            carry_out(plan, batches);
            assert_is_settled(plan);
        });
    }
}

#[test]
fn many_containers() {
    let containers =
        |number: usize| -> Vec<Claim> { (0..number).map(|n| web(&format!("c{n}"))).collect() };
    assert_is_linear(
        |number| plan(&containers(number), &[]),
        |plan| {
            carry_out_all(plan);
            plan.want(&wanted(&[]));
            carry_out_all(plan);
        },
    );
}

#[test]
fn keys_of_another_registrar() {
    // Each batch finds that another registrar has put the shared keys, and the retries find it too.
    assert_is_linear(
        |ports| plan(&[container("a", ports)], &[]),
        |plan| {
            let batches = plan.batches(MAX_OPERATIONS, false);
            let mut refused = Refused::default();
            for batch in &batches {
                let keys: Vec<Key> = batch.puts().cloned().collect();
                let ports = keys.iter().filter(|key| key.ends_with("/port"));
                let lease = |key: &str| Some(LeaseId::shared(key, TTL + 2));
                let found = ports.map(|key| found(key, "80", lease(key))).collect();
                plan.observe(&keys, found);
                plan.refuse(batch, &mut refused);
                plan.put_back(batch, &mut refused);
            }
            carry_out_all(plan);
        },
    );
}

#[test]
fn a_small_change_beside_a_large_one_costs_little() {
    // As many small changes as the large one has batches: each is planned while the others are left.
    assert_is_linear(
        |ports| {
            let mut plan = plan(&[container("a", ports)], &[]);
            plan.set_alone(true);
            plan
        },
        |plan| {
            let mut left = VecDeque::from(plan.batches(MAX_OPERATIONS, false));
            let (large, mut number) = (Arc::clone(&plan.claims["a"]), 0);
            while let Some(batch) = left.pop_front() {
                assert!(plan.is_current(&batch));
                carry_out(plan, vec![batch]);
                number += 1;
                let small = Arc::new(web(&format!("small{}", number % 2)));
                plan.want(&Arc::new(Wanted {
                    claims: [Arc::clone(&large), small].into_iter().collect(),
                    ..Wanted::default()
                }));
                let further = plan.further_batches(MAX_OPERATIONS, false);
                assert!(!further.is_empty() && further.iter().all(Batch::is_small));
                carry_out(plan, further);
            }
            assert!(number >= FEW * 2 / MAX_OPERATIONS);
        },
    );
}
