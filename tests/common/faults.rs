//! Helpers for tests of faults: random numbers, many simulated containers, and etcd's maintenance.

use super::etcd::Etcd;
use super::{FakeDocker, Registrar, RegistrarBuilder, Reply, SOON, eventually};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions, DeleteOptions};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The number of occurrences of a part in a text.
pub fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

/// Starts a registrar, and waits until it has done its first work.
pub fn in_step(registrar: &RegistrarBuilder) -> Registrar {
    let registrar = registrar.start();
    registrar.wait_for_log("in step", SOON);
    registrar
}

/// The number of warnings in a registrar's log.
pub fn warnings(registrar: &Registrar) -> usize {
    count(&registrar.log(), "WARN ")
}

/// The most log lines about one outage of some seconds. Its message may change once or twice, as when a connection is
/// first lost and then refused. There are many more retries.
pub const FEW: usize = 3;

/// Checks that the log has the beginning and the end of each outage of `partner`.
#[track_caller]
pub fn assert_told_of(registrar: &Registrar, partner: &str, troubles: usize) {
    let over = format!("{partner} is back after");
    eventually(SOON, "the end of the trouble in the log", || {
        count(&registrar.log(), &over) >= troubles
    });
    let (log, warnings) = (registrar.log(), warnings(registrar));
    assert_eq!(count(&log, &over), troubles, "{log}");
    assert!(
        (troubles..=FEW * troubles).contains(&warnings),
        "{warnings} warnings of {troubles} troubles"
    );
}

/// Lets a fault last. To wait until something has happened, use `eventually`.
pub fn let_time_pass(time: Duration) {
    let start = Instant::now();
    eventually(2 * time, "time to pass", || start.elapsed() >= time);
}

/// Random numbers that a seed reproduces (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    ///
    /// # Panics
    ///
    /// If `end` is zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a size is at most 64 bits");
        usize::try_from(self.next() % end).expect("it is below a size")
    }

    pub fn pick<'a, T>(&mut self, several: &'a [T]) -> &'a T {
        &several[self.below(several.len())]
    }
}

/// Docker's inspect object of a running container with the ports 8005 and 8006, published from `port` on. Its id is as
/// many digits of `number` as it takes.
pub fn inspection(number: u16, service: &str, port: u16) -> Value {
    let published = |port: u16| json!([{ "HostIp": "0.0.0.0", "HostPort": port.to_string() }]);
    json!({
        "Id": format!("{number:0>12}{:0>52}", ""),
        "Name": format!("/c{number}"), "Created": "2024-01-01T00:00:00Z", "Image": "sha256:0123",
        "State": { "Status": "running", "Running": true },
        "Config": {
            "Image": "web", "Env": [format!("SERVICE_NAME={service}")],
            "ExposedPorts": { "8005/tcp": {}, "8006/tcp": {} },
        },
        "HostConfig": { "NetworkMode": "default" },
        "NetworkSettings": {
            "Ports": { "8005/tcp": published(port), "8006/tcp": published(port + 1) },
        },
    })
}

/// Docker's list entry of a running container with this inspect object.
pub fn summary(inspected: &Value) -> Value {
    let ports = inspected["NetworkSettings"]["Ports"].as_object();
    let binding = |(port, bindings): (&String, &Value)| {
        let (number, protocol) = port.split_once('/').expect("a port with a protocol");
        let number: u16 = number.parse().expect("the number of a port");
        let binding = bindings[0].as_object().map(|binding| {
            let public: u16 = binding["HostPort"].as_str().unwrap().parse().unwrap();
            json!({ "IP": binding["HostIp"], "PrivatePort": number, "PublicPort": public, "Type": protocol })
        });
        binding.unwrap_or_else(|| json!({ "PrivatePort": number, "Type": protocol }))
    };
    json!({
        "Id": inspected["Id"], "Names": [inspected["Name"]],
        "Image": inspected["Config"]["Image"], "ImageID": inspected["Image"],
        "Command": "/bin/httpd -f", "Created": 1_704_067_200, "Labels": inspected["Config"]["Labels"],
        "State": inspected["State"]["Status"], "Status": "Up 2 hours",
        "Ports": ports.into_iter().flatten().map(binding).collect::<Vec<_>>(),
        "HostConfig": { "NetworkMode": inspected["HostConfig"]["NetworkMode"] },
        "NetworkSettings": { "Networks": inspected["NetworkSettings"]["Networks"] },
        "Mounts": [],
    })
}

/// A Docker with these containers, which never change.
pub fn docker_of(containers: Vec<Value>) -> FakeDocker {
    docker_with_id("FAKE", containers)
}

/// The same, of a daemon with this id.
pub fn docker_with_id(id: &'static str, containers: Vec<Value>) -> FakeDocker {
    FakeDocker::start(move |_, path| {
        if path == "/info" {
            return Some(Reply::Json(200, json!({ "ID": id, "Name": "fake" })));
        }
        if path == "/containers/json" {
            return Some(Reply::Json(200, containers.iter().map(summary).collect()));
        }
        let id = path
            .strip_prefix("/containers/")
            .and_then(|rest| rest.strip_suffix("/json"))?;
        let one = containers.iter().find(|c| c["Id"] == id)?;
        Some(Reply::Json(200, one.clone()))
    })
}

impl Etcd {
    /// Compacts all history up to now, as etcd's automatic compaction does.
    pub fn compact(&self) {
        let revision = self.revision();
        let options = CompactionOptions::new().with_physical();
        self.call(async |mut etcd| etcd.compact(revision, Some(options)).await);
    }

    /// Writes junk below `prefix` until etcd reports that its space is used up.
    ///
    /// # Panics
    ///
    /// If etcd accepts more than its quota.
    pub fn fill(&self, prefix: &str) {
        let junk = "x".repeat(1024 * 1024);
        let full = self.call(async |mut etcd| {
            for number in 0..256 {
                let key = format!("{prefix}{number}");
                if etcd.put(key, junk.as_str(), None).await.is_err() {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        assert!(full, "etcd takes all");
        assert!(self.has_alarm(), "etcd is full and does not say so");
    }

    /// Whether etcd has the alarm `NOSPACE`.
    pub fn has_alarm(&self) -> bool {
        let answer = self
            .call(async |mut etcd| etcd.alarm(AlarmAction::Get, AlarmType::Nospace, None).await);
        !answer.alarms().is_empty()
    }

    /// Frees a full etcd as an operator does: deletes the junk, compacts, defragments, disarms the alarm.
    pub fn make_room(&self, prefix: &str) {
        let options = DeleteOptions::new().with_prefix();
        self.call(async |mut etcd| etcd.delete(prefix, Some(options)).await);
        self.compact();
        self.call(async |mut etcd| etcd.defragment().await);
        self.take_puts();
    }

    /// Raises the alarm for lack of space: etcd refuses puts and new leases, but still deletes.
    pub fn refuse_puts(&self) {
        self.call(async |mut etcd| {
            etcd.alarm(AlarmAction::Activate, AlarmType::Nospace, None)
                .await
        });
    }

    /// Ends the alarm for lack of space.
    pub fn take_puts(&self) {
        self.call(async |mut etcd| {
            let alarms = etcd
                .alarm(AlarmAction::Get, AlarmType::Nospace, None)
                .await?;
            for alarm in alarms.alarms() {
                let mut options = AlarmOptions::new();
                options.with_member(alarm.member_id());
                etcd.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options))
                    .await?;
            }
            Ok(())
        });
    }
}
