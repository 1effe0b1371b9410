//! Single steps between Docker and etcd: their time, and their number of instructions, which varies less.
//!
//! If valgrind is installed, it counts the instructions: it runs this program, which repeats a step a number of times.
//! The difference between two runs is the cost of the further repetitions alone, without that of the program's start.

use std::env;
use std::hint::black_box;
use std::process::Command;

use criterion::{BenchmarkId, Criterion};
use docker_register::steps::{Deciding, Planning, Reading};
use serde_json::Value;

/// The sizes of a host, in containers.
const SIZES: [usize; 2] = [20, 2_000];
/// The repetitions of a step in the two runs under valgrind.
const TIMES: [u32; 2] = [10, 60];
/// The argument that asks for repetitions.
const REPEAT: &str = "--repeat";

/// A step that can be repeated.
type Step = Box<dyn FnMut()>;

/// Measures all steps, and prints their times and instructions.
pub fn print() {
    let mut criterion = Criterion::default();
    for (name, size) in steps() {
        let mut step = step(name, size);
        let id = match size {
            0 => BenchmarkId::from_parameter("one"),
            size => BenchmarkId::from_parameter(size),
        };
        let mut group = criterion.benchmark_group(name);
        group.bench_function(id, |bencher| bencher.iter(&mut step));
        group.finish();
    }
    println!();
    for (name, size) in steps() {
        let [Some(few), Some(many)] = TIMES.map(|times| instructions(name, size, times)) else {
            println!("instructions are not counted: valgrind is missing");
            return;
        };
        let of = match size {
            0 => String::new(),
            size => format!(", {size} containers"),
        };
        let each = (many - few) / u64::from(TIMES[1] - TIMES[0]);
        println!("{name}{of}: {each} instructions");
    }
}

/// Repeats a step if the arguments ask for it.
pub fn was_asked_to_repeat() -> bool {
    let words: Vec<String> = env::args().collect();
    let Some(place) = words.iter().position(|word| word == REPEAT) else {
        return false;
    };
    let [name, size, times] = &words[place + 1..] else {
        panic!("{REPEAT} STEP SIZE TIMES");
    };
    let mut step = step(name, size.parse().expect("a size"));
    for _ in 0..times.parse().expect("a number") {
        step();
    }
    true
}

/// All steps, each with the number of containers on the host; 0 where that does not matter.
fn steps() -> Vec<(&'static str, usize)> {
    let follow = ["container → Lua → entries", "plan for one change"];
    let follow = follow
        .into_iter()
        .flat_map(|name| SIZES.map(|size| (name, size)));
    [("inspect JSON → container", 0)]
        .into_iter()
        .chain(follow)
        .collect()
}

fn step(name: &str, size: usize) -> Step {
    let saved = include_str!("../examples/fleet.json");
    let saved: Vec<Value> = serde_json::from_str(saved).expect("saved containers");
    let mut saved = saved.iter();
    let with_two_ports = saved.find(|container| container["Name"] == "/api-1");
    let container = with_two_ports.expect("the container");
    if name.starts_with("inspect") {
        let mut reading = Reading::new(container);
        Box::new(move || {
            black_box(reading.once().expect("a container"));
        })
    } else if name.starts_with("container") {
        let mut deciding = Deciding::new(container, size).expect("a policy");
        Box::new(move || {
            deciding.once().expect("a policy that goes on");
        })
    } else {
        let mut planning = Planning::new(container, size).expect("a policy");
        Box::new(move || {
            let transactions = planning.once();
            assert_eq!(transactions, 1);
        })
    }
}

/// The number of instructions that this program needs to repeat a step `times` times; none without valgrind.
fn instructions(name: &str, size: usize, times: u32) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().expect("this program has a path"))
        .args([REPEAT, name, &size.to_string(), &times.to_string()])
        .output()
        .ok()?;
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let count = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))?
        .1;
    Some(count.trim().parse().expect("a number of instructions"))
}
