//! Random schedules of two registrars against a model of etcd. Whatever happens, the model ends with the wanted keys,
//! no member key ever exists without the port key of its directory, and no registrar deletes the last key of a running
//! container whose check does not fail. The wanted keys change in layout, value, TTL and kind, checks get and lose their
//! verdicts, and etcd refuses puts and takes deletes.

mod acts;
mod world;

use proptest::prelude::*;

use crate::base::key::{Key, directory};
use crate::store::model::Refuses;
use acts::{Act, act};
use world::World;

/// The TTLs of the registrars, in seconds: they need not agree.
const TTLS: [u32; REGISTRARS] = [6, 9];
const REGISTRARS: usize = 2;

/// The TTLs of entries, in seconds. A shared key's TTL changes with its container.
const ENTRY_TTLS: [u32; 3] = [6, 9, 24];
/// The prefixes of the layouts.
const LAYOUTS: [&str; 2] = ["/old/", "/new/"];

/// Runs a schedule, lets time pass, and checks that etcd then has the wanted keys.
fn run(acts: &[Act], check_history: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new();
        for act in acts {
            world.act(act).await;
        }
        world.etcd.model().after_guard_failed = None;
        world.etcd.model().after_transactions = None;
        world.etcd.model().refuses = Refuses::Nothing;
        for registrar in 0..REGISTRARS {
            world.judge(registrar, None, Some(true));
        }
        // Long enough for all leftovers of failures to expire, with the margin of shared leases.
        for _ in 0..3 * ENTRY_TTLS[2] {
            world.second(0).await;
        }
        assert_eq!(world.held(), world.wanted());
        let revisions = world.etcd.model().history.len();
        for _ in 0..2 * ENTRY_TTLS[2] {
            world.second(0).await;
        }
        assert_eq!(
            world.etcd.model().history.len(),
            revisions,
            "the steady state writes nothing"
        );
        let model = world.etcd.model();
        for state in model.history.iter().filter(|_| check_history) {
            let is_beside = |key: &&Key| LAYOUTS.iter().any(|layout| key.starts_with(layout));
            for key in state.keys().filter(is_beside) {
                let port: Key = format!("{}port", directory(key)).into();
                assert!(state.contains_key(&port), "{key} without port: {state:?}");
            }
        }
    });
}

proptest! {
    // These take about a second; PROPTEST_CASES sets another number.
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_schedule_ends_with_exactly_the_wanted_keys(acts in prop::collection::vec(act(false), 1..40)) {
        run(&acts, true);
    }

    #[test]
    fn every_change_by_hand_is_mended(acts in prop::collection::vec(act(true), 1..40)) {
        run(&acts, false);
    }
}
