//! Bounded property tests: whatever Docker says of a container, and whatever a policy returns, comes to legal keys or to a
//! message. `make fuzz CASES=1000000 SEED=1` tries more of them; the same seed tries the same.

use std::env;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;

use super::*;
use crate::container::Container;
use crate::register::plan::Plan;
use crate::store::Identity;
use crate::wanted::Claim;

/// How many cases are tried if nothing else is said.
const CASES: u64 = 30_000;
/// How many containers are in one snapshot.
const BATCH: u64 = 100;
/// What is saved of real containers.
const FLEET: &str = include_str!("../../../examples/fleet.json");

/// What may stand where a text is expected.
const TEXTS: [&str; 34] = [
    "",
    "web",
    "port",
    "1",
    "true",
    "false",
    "80/tcp",
    "53/udp",
    "8000-8003/tcp",
    "65535/sctp",
    "0/tcp",
    "9-1",
    "65536",
    ".",
    "..",
    "../../x",
    "/",
    "a/b",
    "/a",
    "a:b@c",
    "@sha256:00",
    "sha256:00",
    "\u{0}",
    "a\nb",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{85}",
    "\u{202e}x",
    "é",
    "größe",
    "\u{10ffff}",
    "127.0.0.1",
    "::",
    "container:",
];
/// What may stand where a number is expected, or anything else, as JSON has it.
const SCALARS: [&str; 16] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "-0.0",
    "1e308",
    "0.5",
    "9223372036854775807",
    "18446744073709551616",
    "-9223372036854775809",
    "65536",
    "\"\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[null]",
];
/// The names of what is read, so that a change often matters.
const NAMES: [&str; 14] = [
    "Id",
    "Name",
    "Created",
    "Image",
    "Config",
    "Env",
    "Labels",
    "ExposedPorts",
    "NetworkSettings",
    "Ports",
    "HostIp",
    "HostPort",
    "SERVICE_NAME",
    "SERVICE_80_NAME",
];

/// Random numbers that a seed reproduces (splitmix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z >> 1).expect("a number of 63 bits") % end
    }

    fn pick<'a, T: ?Sized>(&mut self, several: &[&'a T]) -> &'a T {
        several[self.below(several.len())]
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What one run of a target is told, and what it came to.
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

/// Writes what Docker might say of containers, and what it never would.
struct Docker {
    rng: Rng,
    templates: Vec<Json>,
    /// One value in so many is changed; none at 0.
    rate: usize,
    text: String,
}

impl Docker {
    fn new(seed: u64) -> Self {
        let mut templates: Vec<Json> = serde_json::from_str(FLEET).expect("the fleet");
        // What is not read makes the cases slow and tries nothing.
        for template in &mut templates {
            let object = template.as_object_mut().expect("an object");
            object.retain(|name, _| {
                [
                    "Id",
                    "Created",
                    "State",
                    "Image",
                    "Name",
                    "HostConfig",
                    "Config",
                    "NetworkSettings",
                ]
                .contains(&name.as_str())
            });
            object["HostConfig"] = json!({ "NetworkMode": object["HostConfig"]["NetworkMode"] });
        }
        Self {
            rng: Rng(seed),
            templates,
            rate: 0,
            text: String::new(),
        }
    }

    /// One container, as JSON for the most part.
    fn container(&mut self) -> &str {
        self.text.clear();
        self.rate = [0, 0, 300, 100, 30, 8][self.rng.below(6)];
        if self.rng.one_in(3) {
            let template = self.rng.below(self.templates.len());
            let template = std::mem::take(&mut self.templates[template]);
            self.write(&template);
            let place = self
                .templates
                .iter_mut()
                .find(|template| template.is_null());
            *place.expect("its place") = template;
        } else {
            let made = self.made();
            self.write(&made);
        }
        if self.rng.one_in(20) {
            let mut cut = self.rng.below(self.text.len());
            while !self.text.is_char_boundary(cut) {
                cut -= 1;
            }
            if self.rng.one_in(2) {
                self.text.truncate(cut);
            } else {
                self.text.insert_str(cut, self.rng.pick(&SCALARS));
            }
        }
        &self.text
    }

    /// A container whose names, ports and addresses are chosen from what may matter.
    fn made(&mut self) -> Json {
        let rng = &mut self.rng;
        let id = format!("{:016x}", rng.below(usize::MAX)).repeat(4);
        let mut labels = serde_json::Map::new();
        let mut env = Vec::new();
        for _ in 0..rng.below(3) {
            let name = rng.pick(&[
                "SERVICE_NAME",
                "SERVICE_80_NAME",
                "SERVICE_53_NAME",
                "SERVICE_IGNORE",
                "SERVICE_80_IGNORE",
            ]);
            let value = if rng.one_in(2) {
                "shop"
            } else {
                rng.pick(&TEXTS)
            };
            if rng.one_in(2) {
                labels.insert(name.to_owned(), json!(value));
            } else {
                env.push(json!(format!("{name}={value}")));
            }
        }
        let (mut exposed, mut published) = (serde_json::Map::new(), serde_json::Map::new());
        for _ in 0..=rng.below(3) {
            let port = rng.pick(&[
                "80/tcp",
                "80",
                "443/TCP",
                "53/udp",
                "53/tcp",
                "8000-8003/tcp",
                "1/x",
                "/tcp",
                "-/",
            ]);
            let ip = rng.pick(&[
                "0.0.0.0",
                "0.0.0.0",
                "",
                "",
                "::",
                "10.1.2.3",
                "127.0.0.1",
                "fd00::1",
                "fe80::1%eth0",
                "host",
                "1.2.3.4\n/x",
            ]);
            let number = rng.pick(&[
                "32768", "1", "32770", "65535", "49153", "0", "65536", "-1", "+80", "", " 80",
            ]);
            exposed.insert(port.to_owned(), json!({}));
            let bindings = json!([{ "HostIp": ip, "HostPort": number }]);
            published.insert(
                port.to_owned(),
                if rng.one_in(5) { Json::Null } else { bindings },
            );
        }
        let mode = rng.pick(&[
            "bridge",
            "host",
            "none",
            "default",
            "container:",
            "container:x",
        ]);
        let status = rng.pick(&[
            "running", "running", "running", "running", "running", "paused", "exited", "",
        ]);
        let health = rng.pick(&[
            "healthy",
            "none",
            "",
            "",
            "healthy",
            "starting",
            "unhealthy",
        ]);
        let image = rng.pick(&[
            "web",
            "team/web:1",
            "localhost:5000/a/b@sha256:00",
            "sha256:00",
            "",
            ":",
            "a/",
            "/",
        ]);
        json!({
            "Id": if rng.one_in(10) { rng.pick(&TEXTS).to_owned() } else { id },
            "Name": if rng.one_in(10) { rng.pick(&TEXTS) } else { "/web-1" },
            "Created": rng.pick(&["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "never", "9999-12-31T23:59:59.999999999+23:59"]),
            "Image": "sha256:00",
            "State": { "Status": status, "Running": true, "Health": { "Status": health } },
            "Config": { "Image": image, "Env": env, "Labels": labels, "ExposedPorts": exposed, "Hostname": "h",
                        "StopSignal": rng.pick(&["SIGTERM", "15", "SIGRTMIN+3", "x"]), "StopTimeout": -1 },
            "HostConfig": { "NetworkMode": mode },
            "NetworkSettings": { "Ports": published, "Networks": { "bridge": { "IPAddress": "172.17.0.2" } } },
        })
    }

    fn write(&mut self, value: &Json) {
        if self.is_changed() {
            return self.write_anything(3);
        }
        match value {
            Json::Object(members) => {
                self.text.push('{');
                for (name, member) in members {
                    if self.is_changed() {
                        continue;
                    }
                    let name = if self.is_changed() {
                        self.rng.pick(&TEXTS)
                    } else {
                        name
                    };
                    self.write_member(name);
                    self.write(member);
                }
                if self.is_changed() {
                    let name = if self.rng.one_in(2) {
                        self.rng.pick(&NAMES)
                    } else {
                        self.rng.pick(&TEXTS)
                    };
                    self.write_member(name);
                    self.write_anything(2);
                }
                self.text.push('}');
            }
            Json::Array(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.text.push(',');
                    }
                    self.write(item);
                }
                self.text.push(']');
            }
            scalar => {
                let _ = write!(self.text, "{scalar}");
            }
        }
    }

    fn write_member(&mut self, name: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        let _ = write!(self.text, "{}:", json!(name));
    }

    fn write_anything(&mut self, depth: usize) {
        match self.rng.below(if depth == 0 { 8 } else { 10 }) {
            0..3 => self.text.push_str(self.rng.pick(&SCALARS)),
            3..7 => {
                let text = self.rng.pick(&TEXTS);
                let _ = write!(self.text, "{}", json!(text));
            }
            7 => {
                let text = self.rng.pick(&TEXTS).repeat(300);
                let _ = write!(self.text, "{}", json!(text));
            }
            8 => {
                self.text.push('[');
                self.write_anything(depth - 1);
                self.text.push(']');
            }
            _ => {
                self.text.push('{');
                let name = if self.rng.one_in(2) {
                    self.rng.pick(&NAMES)
                } else {
                    self.rng.pick(&TEXTS)
                };
                self.write_member(name);
                self.write_anything(depth - 1);
                self.text.push('}');
            }
        }
    }

    fn is_changed(&mut self) -> bool {
        self.rate > 0 && self.rng.one_in(self.rate)
    }
}

/// A site whose policy is given one snapshot for each run of it.
fn live_site() -> Site {
    let mut site = Site::new(&[]);
    site.world.source = Source::Live(site.snapshots.subscribe());
    site
}

fn give(site: &Site, containers: Vec<Arc<Container>>) {
    let snapshot = Snapshot::of(containers.into_iter().collect());
    site.snapshots.send_replace(Some(Arc::new(snapshot)));
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

/// What is said to an operator stays on its line.
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
            match read_saved(text) {
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
    let script = site.load(include_str!("fuzz.lua")).expect("the policy");
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
