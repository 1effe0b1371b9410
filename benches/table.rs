//! Shared by the benchmarks: the two programs, and the table that compares them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::common::{HOST_IP, Simulated};
use super::store::Place;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Register,
    Bare,
}

/// Both, in the order in which they take turns.
pub const BOTH: [Program; 2] = [Program::Register, Program::Bare];

/// A program that runs until it goes out of scope.
pub struct Running(Child);

/// The limit for docker-register.
#[derive(Debug, Clone, Copy)]
pub enum Budget {
    /// Factors on the bare client's median, and on its 95th percentile.
    Times(f64, f64),
    /// An addition to the bare client's median.
    More(f64),
    /// An absolute limit of the median.
    Most(f64),
}

/// One line of the table.
pub struct Row {
    what: String,
    unit: &'static str,
    budget: Option<Budget>,
    register: Vec<f64>,
    bare: Vec<f64>,
}

impl Program {
    /// The file of docker-register, or of a bare client by its name.
    pub fn path(self, bare: &str) -> PathBuf {
        let register = PathBuf::from(env!("CARGO_BIN_EXE_docker-register"));
        match self {
            Self::Register => register,
            Self::Bare => register.with_file_name("examples").join(bare),
        }
    }

    /// Starts it, with the Docker of the environment or a simulated one.
    pub fn start(self, place: &Place, docker: Option<&Simulated>) -> Running {
        Running::new(&mut self.command(place, docker))
    }

    pub fn command(self, place: &Place, docker: Option<&Simulated>) -> Command {
        self.command_at(HOST_IP, place, docker)
    }

    /// The same with another address of the host.
    pub fn command_at(self, ip: &str, place: &Place, docker: Option<&Simulated>) -> Command {
        let (store, prefix, filter) = (place.uri(), &place.bed.prefix, place.bed.filter());
        let mut command = Command::new(self.path("bare"));
        match self {
            Self::Register => {
                command.args(["run", "--store", &store, "--prefix", prefix]);
                command.args(["--host-ip", ip]);
                if docker.is_none() {
                    command.args(["--filter", &filter]);
                }
            }
            Self::Bare => {
                let label = filter.trim_start_matches("label=");
                command.args([store.as_str(), prefix, ip, label]);
            }
        }
        if let Some(docker) = docker {
            command.env("DOCKER_HOST", docker.host());
        }
        command
    }
}

impl Running {
    /// Starts a program, without its output.
    pub fn new(command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(
            command
                .spawn()
                .expect("a program that `make bench` has built"),
        )
    }

    /// The CPU time of all its threads so far.
    pub fn processor_time(&self) -> Duration {
        processor_time(self.0.id())
    }

    /// Resident memory, in MiB.
    pub fn resident(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.0.id())).expect("it runs");
        let pages = text.split(' ').nth(1).expect("a number of pages");
        pages.parse::<f64>().expect("a number") * 4096.0 / (1024.0 * 1024.0)
    }
}

impl Running {
    /// Kills it, and waits for its end.
    pub fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl Row {
    /// A line without samples.
    pub fn new(what: &str, unit: &'static str, budget: Option<Budget>) -> Self {
        Self {
            what: what.to_owned(),
            unit,
            budget,
            register: Vec::new(),
            bare: Vec::new(),
        }
    }

    /// The samples of one of the two.
    pub fn of(&mut self, program: Program) -> &mut Vec<f64> {
        match program {
            Program::Register => &mut self.register,
            Program::Bare => &mut self.bare,
        }
    }

    /// Sets the budget.
    pub fn limit(&mut self, budget: Budget) {
        self.budget = Some(budget);
    }

    /// The median of docker-register's samples.
    pub fn median(&self) -> f64 {
        percentile(&self.register, 0.5)
    }

    fn print(&self) {
        let of = |samples: &[f64]| [0.5, 0.95].map(|part| percentile(samples, part));
        let pair = |[median, late]: [f64; 2], unit: &str| format!("{median:.2} / {late:.2} {unit}");
        let (register, bare) = (of(&self.register), of(&self.bare));
        let ratio = [register[0] / bare[0], register[1] / bare[1]];
        // No ratio if the bare client's value is zero.
        let times = if ratio.iter().all(|times| times.is_finite()) {
            pair(ratio, "")
        } else {
            "–".to_owned()
        };
        let budget = self.budget.map(|budget| match budget {
            Budget::Times(median, late) => (
                ratio[0] <= median && ratio[1] <= late,
                format!("{median} / {late} times"),
            ),
            Budget::More(more) => (
                register[0] <= bare[0] + more,
                format!("{more} {} more", self.unit),
            ),
            Budget::Most(most) => (register[0] <= most, format!("{most:.2} {}", self.unit)),
        });
        let budget = budget.map_or(String::new(), |(met, text)| {
            format!("{text}: {}", if met { "met" } else { "NOT MET" })
        });
        println!(
            "{:44} {:>22} {:>22} {:>14}  {budget}",
            self.what,
            pair(register, self.unit),
            pair(bare, self.unit),
            times,
        );
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "unit": self.unit,
            "docker-register": self.register, "bare": self.bare,
        })
    }
}

/// Prints the table, and writes all samples to a file.
///
/// # Panics
///
/// If the file cannot be written.
pub fn print(file: &str, rows: &[Row]) {
    let heads = ["docker-register", "bare client", "ratio"];
    println!(
        "{:44} {:>22} {:>22} {:>14}  budget",
        "median / 95th percentile", heads[0], heads[1], heads[2]
    );
    rows.iter().for_each(Row::print);
    let json: Vec<Value> = rows.iter().map(Row::json).collect();
    let text = serde_json::to_string_pretty(&json).expect("plain data");
    fs::write(file, text).expect("its directory is there");
    println!("all samples are in {file}");
}

/// The factor on all sizes and numbers: `BENCH_SCALE=0.1` for a first look.
pub fn scale() -> f64 {
    std::env::var("BENCH_SCALE").map_or(1.0, |text| text.parse().expect("a number"))
}

/// A number times [`scale`], at least one.
pub fn scaled(number: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small numbers"
    )]
    let scaled = (number as f64 * scale()).ceil() as usize;
    scaled.max(1)
}

/// The CPU time of all threads of a process so far.
pub fn processor_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of_task = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.flatten().filter_map(of_task).sum())
}

/// The time between two times of the clock; zero if the clock was set back in between.
pub fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

/// A time as a number of milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
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
    let index = ((sorted.len().max(1) - 1) as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
