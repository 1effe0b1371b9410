//! `make bench`: what docker-register costs beside the bare client in `bare.rs`, in alternating runs against a real
//! Docker and a real etcd. It prints a table, and writes all samples to `target/bench.json`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{Container, HOST_IP, Kind, SOON, TestBed, eventually};
use serde_json::{Value, json};

/// How often each program takes its turn, and how many samples of a container's start and stop each turn gives.
const TURNS: usize = 5;
const SAMPLES: usize = 10;
/// The sizes of a host, in containers.
const SIZES: [usize; 3] = [10, 50, 200];
/// How often each program is started at each size.
const STARTS: usize = 50;
/// How long the steady state is watched.
const STEADY: Duration = Duration::from_secs(60);

/// The two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Register,
    Bare,
}

const BOTH: [Program; 2] = [Program::Register, Program::Bare];

/// A program that runs until it goes out of scope.
struct Running(Child);

/// One line of the table.
struct Row {
    what: String,
    unit: &'static str,
    /// What the ratio of the medians, and of the 95th percentiles, may be.
    budgets: Option<[f64; 2]>,
    register: Vec<f64>,
    bare: Vec<f64>,
}

fn main() {
    let scale: f64 =
        std::env::var("BENCH_SCALE").map_or(1.0, |text| text.parse().expect("a number"));
    let mut rows = Vec::new();
    rows.extend(latency(scaled(SAMPLES, scale)));
    for size in SIZES {
        let bed = TestBed::new();
        let containers = start_containers(&bed, scaled(size, scale));
        rows.extend(start_up(&bed, containers.len(), scaled(STARTS, scale)));
        if size == SIZES[SIZES.len() - 1] {
            rows.extend(steady(&bed, containers.len(), STEADY.mul_f64(scale)));
        }
    }
    print(&rows);
    let json: Vec<Value> = rows.iter().map(Row::json).collect();
    let text = serde_json::to_string_pretty(&json).expect("plain data");
    fs::write("target/bench.json", text).expect("target is there");
}

fn scaled(number: usize, scale: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small numbers"
    )]
    let scaled = (number as f64 * scale).ceil() as usize;
    scaled.max(1)
}

impl Program {
    fn start(self, bed: &TestBed) -> Running {
        let register = Path::new(env!("CARGO_BIN_EXE_docker-register"));
        let label = bed.filter().trim_start_matches("label=").to_owned();
        let mut command = match self {
            Self::Register => {
                let mut command = Command::new(register);
                let endpoint = bed.etcd.endpoint();
                command.args(["run", "--etcd", &endpoint, "--prefix", &bed.prefix]);
                command.args(["--host-ip", HOST_IP, "--filter", &bed.filter()]);
                command
            }
            Self::Bare => {
                let mut command = Command::new(register.with_file_name("examples").join("bare"));
                command.args([&bed.etcd.endpoint(), &bed.prefix, HOST_IP, &label]);
                command
            }
        };
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Running(
            command
                .spawn()
                .expect("a program that `make bench` has built"),
        )
    }
}

impl Running {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The processor's time that it has had.
    fn processor_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let of_task = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.flatten().filter_map(of_task).sum())
    }

    /// The memory that it has, in MiB.
    fn resident(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("it runs");
        let pages = text.split(' ').nth(1).expect("a number of pages");
        pages.parse::<f64>().expect("a number") * 4096.0 / (1024.0 * 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From Docker's events to what a watcher sees.
fn latency(samples: usize) -> [Row; 2] {
    let [mut start, mut stop] = ["start event → key visible", "stop begins → key gone"]
        .map(|what| Row::new(what, "ms", Some([1.15, 1.3])));
    for _ in 0..TURNS {
        for program in BOTH {
            let bed = TestBed::new();
            let container = bed
                .container()
                .env("SERVICE_NAME", "web")
                .publish_all()
                .create();
            let _running = program.start(&bed);
            let watch = bed.etcd.watch(&bed.prefix);
            let is_member = |key: &str| key.ends_with(&format!("/1/{}", container.short_id()));
            let delay = |kind: Kind, event: &str| {
                let (seen, _) = watch.next(|change| change.kind == kind && is_member(&change.key));
                milliseconds(since(container.event_time(event), seen))
            };
            // The first time is a warming up.
            for sample in 0..=samples {
                container.start();
                let started = delay(Kind::Put, "start");
                container.stop();
                let stopped = delay(Kind::Delete, "kill");
                if sample > 0 {
                    start.of(program).push(started);
                    stop.of(program).push(stopped);
                }
            }
        }
    }
    [start, stop]
}

/// From the start of the process to its first key, and to all.
fn start_up(bed: &TestBed, size: usize, starts: usize) -> [Row; 2] {
    let [mut first, mut all] = ["first key", "all keys"].map(|what| {
        let budgets = (what == "all keys").then_some([1.3, f64::INFINITY]);
        Row::new(
            &format!("process start → {what} of {size} containers"),
            "ms",
            budgets,
        )
    });
    for _ in 0..starts {
        for program in BOTH {
            forget(bed);
            let watch = bed.etcd.watch(&bed.prefix);
            let begun = SystemTime::now();
            let _running = program.start(bed);
            let is_member =
                |change: &common::Event| change.kind == Kind::Put && !change.key.ends_with("/port");
            let (seen, _) = watch.next(is_member);
            first.of(program).push(milliseconds(since(begun, seen)));
            // The first was one; each container has two.
            let mut last = seen;
            for _ in 1..2 * size {
                (last, _) = watch.next(is_member);
            }
            all.of(program).push(milliseconds(since(begun, last)));
        }
    }
    [first, all]
}

/// What a minute costs in which nothing happens.
fn steady(bed: &TestBed, size: usize, time: Duration) -> [Row; 3] {
    let [mut writes, mut processor, mut memory] = [
        ("writes to etcd in a minute", "", None),
        ("processor, of a core", "%", None),
        ("memory", "MiB", None),
    ]
    .map(|(what, unit, budgets)| Row::new(&format!("steady with {size}: {what}"), unit, budgets));
    for program in BOTH {
        forget(bed);
        let running = program.start(bed);
        eventually(SOON, "all keys", || bed.keys().len() >= 2 * size + 2);
        let (revision, before, begun) = (
            bed.etcd.revision(),
            running.processor_time(),
            Instant::now(),
        );
        // This is a measurement of time that passes, and not a wait for something.
        thread::sleep(time);
        let spent = running.processor_time().saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        writes
            .of(program)
            .push((bed.etcd.revision() - revision) as f64);
        processor
            .of(program)
            .push(100.0 * spent.as_secs_f64() / begun.elapsed().as_secs_f64());
        memory.of(program).push(running.resident());
    }
    [writes, processor, memory]
}

/// Starts containers with two published ports each, several at a time.
fn start_containers(bed: &TestBed, size: usize) -> Vec<Container> {
    thread::scope(|scope| {
        let part = |part: usize| {
            scope.spawn(move || {
                let own = (part..size).step_by(4);
                own.map(|_| bed.container().publish_all().start())
                    .collect::<Vec<_>>()
            })
        };
        let parts: Vec<_> = (0..4).map(part).collect();
        let join =
            |part: thread::ScopedJoinHandle<Vec<Container>>| part.join().expect("containers");
        parts.into_iter().flat_map(join).collect()
    })
}

/// Leaves nothing of an earlier run.
fn forget(bed: &TestBed) {
    for lease in bed.etcd.leases() {
        bed.etcd.revoke(lease);
    }
    eventually(SOON, "an empty etcd", || bed.keys().is_empty());
}

impl Row {
    fn new(what: &str, unit: &'static str, budgets: Option<[f64; 2]>) -> Self {
        Self {
            what: what.to_owned(),
            unit,
            budgets,
            register: Vec::new(),
            bare: Vec::new(),
        }
    }

    fn of(&mut self, program: Program) -> &mut Vec<f64> {
        match program {
            Program::Register => &mut self.register,
            Program::Bare => &mut self.bare,
        }
    }

    /// The median and the 95th percentile of the two, and the ratios.
    fn figures(&self) -> [[f64; 2]; 3] {
        let of = |samples: &[f64]| [0.5, 0.95].map(|part| percentile(samples, part));
        let (register, bare) = (of(&self.register), of(&self.bare));
        [
            register,
            bare,
            [register[0] / bare[0], register[1] / bare[1]],
        ]
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "unit": self.unit,
            "docker-register": self.register, "bare": self.bare,
        })
    }
}

fn print(rows: &[Row]) {
    println!(
        "{:44} {:>22} {:>22} {:>14}  budget",
        "", "docker-register", "bare client", "ratio"
    );
    println!(
        "{:44} {:>22} {:>22} {:>14}",
        "median / 95th percentile", "", "", ""
    );
    for row in rows {
        let [register, bare, ratio] = row.figures();
        let pair = |[median, late]: [f64; 2], digits: usize, unit: &str| {
            format!("{median:.digits$} / {late:.digits$} {unit}")
        };
        let budget = row.budgets.map_or(String::new(), |[median, late]| {
            let holds = ratio[0] <= median && ratio[1] <= late;
            let limits = if late.is_finite() {
                format!("{median} / {late}")
            } else {
                median.to_string()
            };
            format!("{limits} {}", if holds { "met" } else { "NOT MET" })
        });
        println!(
            "{:44} {:>22} {:>22} {:>14}  {budget}",
            row.what,
            pair(register, 2, row.unit),
            pair(bare, 2, row.unit),
            pair(ratio, 2, ""),
        );
    }
}

fn percentile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a few hundred samples"
    )]
    let index = ((sorted.len() - 1) as f64 * part).round() as usize;
    sorted[index]
}

/// From one time of the clock to a later one. Where the clock's steps hide which is the later, it is nothing.
fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
