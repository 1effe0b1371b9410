//! Limited property tests: whatever Docker says of a container, and whatever a policy returns, becomes legal keys or a
//! message. `make fuzz CASES=1000000 SEED=1` tries more cases; the same seed tries the same ones.

mod docker;
mod rng;

use std::env;
use std::net::SocketAddr;
use std::thread;

use super::*;
use crate::container::Container;
use crate::register::plan::Plan;
use crate::store::Identity;
use crate::wanted::Claim;
use docker::Docker;

/// The default number of cases.
const CASES: u64 = 30_000;
/// The containers of one snapshot.
const BATCH: u64 = 100;

/// The settings and the results of one run.
struct Run {
    seed: u64,
    cases: u64,
    done: u64,
    keys: u64,
    failures: u64,
}

impl Run {
    fn new() -> Self {
        let number = |name: &str| env::var(name).ok()?.parse().ok();
        let seed = number("FUZZ_SEED").unwrap_or_else(|| {
            let now = std::time::UNIX_EPOCH.elapsed();
            u64::from(now.expect("the clock is past 1970").subsec_nanos())
        });
        Self {
            seed,
            cases: number("FUZZ_CASES").unwrap_or(CASES),
            done: 0,
            keys: 0,
            failures: 0,
        }
    }

    /// Counts what a round came to, of which every entry has to be legal.
    fn count(&mut self, site: &Site, cases: u64) -> Arc<Wanted> {
        self.done += cases;
        let wanted = site.wanted.borrow().clone().expect("a call of etcd.sync");
        for claim in wanted.claims.iter() {
            for entry in claim.entries.iter() {
                entry.check().unwrap_or_else(|why| panic!("{why}"));
                self.keys += 1;
            }
        }
        for verdict in site.world.verdicts.borrow().all() {
            if let Some(failure) = &verdict.failure {
                assert!(
                    !failure.to_string().trim().is_empty(),
                    "a failure says what it is"
                );
                self.failures += 1;
            }
        }
        let mut plan = Plan::new(Identity::new("", ""));
        plan.want(&wanted);
        plan.batches(128, false);
        plan.notes();
        wanted
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Self {
            seed,
            done,
            keys,
            failures,
            ..
        } = self;
        println!("FUZZ_SEED={seed}: {done} cases, {keys} keys, {failures} failures");
        if !thread::panicking() {
            assert!(
                *keys > *done / 10 && *failures > *done / 100,
                "they try nothing"
            );
        }
    }
}

/// Says which text it was if a panic ends what is done with it.
struct Blame<'a>(&'a str);

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.0);
        }
    }
}

/// A site whose policy is given one snapshot for each run of it.
fn live_site() -> Site {
    let mut site = Site::new(&[]);
    site.world.source = Source::Live(site.snapshots.subscribe());
    site
}

fn give(site: &Site, containers: Vec<Arc<Container>>) {
    let unreadable = Vec::new();
    site.snapshots.send_replace(Some(Arc::new(Snapshot {
        containers: containers.into_iter().collect(),
        unreadable,
        outside: Some(Arc::default()),
    })));
}

/// Checks that a container's keys are where the default policy puts them.
fn check_layout(claim: &Claim, containers: &[Arc<Container>]) {
    for entry in claim.entries.iter() {
        let below = entry.key.strip_prefix("/backends/").expect("the prefix");
        let segments: Vec<&str> = below.split('/').collect();
        let [_service, index, last] = segments[..] else {
            panic!("{} has another number of segments", entry.key);
        };
        let is_of = |container: &&Arc<Container>| *container.id == *claim.who.id;
        let is_in_place = |container: &Arc<Container>| {
            let mut ports = container.ports.iter();
            let port = ports.find(|port| port.index.to_string() == index);
            port.is_some_and(|port| {
                let address = entry.value.parse::<SocketAddr>();
                if entry.shared {
                    let number = entry.value.strip_suffix("/udp").unwrap_or(&entry.value);
                    last == "port" && number == port.port.to_string()
                } else {
                    last == container.short_id() && address.is_ok_and(|address| address.port() != 0)
                }
            })
        };
        assert!(
            containers.iter().filter(is_of).any(is_in_place),
            "{entry:?} is not as the layout has it"
        );
    }
}

/// A text for an operator stays on its line.
fn check_text(text: &str) {
    assert!(
        !text.is_empty() && !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
}

#[tokio::test]
async fn whatever_docker_says_comes_to_keys_in_their_place_or_to_a_message() {
    let mut site = live_site();
    site.world.options.set = vec![("protocols".to_owned(), "tcp,udp".to_owned())];
    let script = site
        .load(
            "local register = require 'register'\n\
             local docker, etcd = require 'docker', require 'etcd'\n\
             function register.run() etcd.sync(docker.containers(), register.entries) end\n\
             return register",
        )
        .expect("the policy");
    let mut run = Run::new();
    let mut docker = Docker::new(run.seed);
    while run.done < run.cases {
        let mut containers = Vec::new();
        for _ in 0..BATCH {
            let text = docker.container();
            let _blame = Blame(text);
            match read_saved(text).and_then(Saved::whole) {
                Ok(list) => containers.extend(list),
                Err(error) => {
                    check_text(&format!("{error:#}"));
                    run.failures += 1;
                }
            }
        }
        // A container whose call fails would keep the keys that one of its id had before.
        site.world.verdicts.replace(Verdicts::default());
        give(&site, containers.clone());
        script.run().await.expect("the run");
        for claim in run.count(&site, BATCH).claims.iter() {
            check_layout(claim, &containers);
        }
        for verdict in site.world.verdicts.borrow().all() {
            verdict.left_out.iter().for_each(|why| check_text(why));
            if let Some(failure) = &verdict.failure {
                check_text(&failure.to_string());
            }
        }
    }
}

#[tokio::test]
async fn whatever_a_policy_returns_comes_to_legal_keys_or_to_a_message() {
    let mut site = live_site();
    let mut run = Run::new();
    site.world.options.set = vec![("seed".to_owned(), run.seed.to_string())];
    let script = site.load(include_str!("policy.lua")).expect("the policy");
    let names = (0..BATCH).map(|number| web(&format!("c{number}")));
    give(
        &site,
        snapshot(&names.collect::<Vec<_>>())
            .containers
            .iter()
            .cloned()
            .collect(),
    );
    while run.done < run.cases {
        script.run().await.expect("the run");
        for claim in run.count(&site, BATCH).claims.iter() {
            let mut keys: Vec<_> = claim.entries.iter().map(|entry| &entry.key).collect();
            keys.sort();
            assert!(keys.is_sorted_by(|a, b| a < b), "no key stands twice");
        }
    }
}
