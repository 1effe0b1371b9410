//! Runs the program, as a user runs it.

use super::dockerd::{as_root, is_root};
use super::{SOON, UNPOISONED, eventually, signal};
use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The size of a pipe, as Linux makes it.
const PIPE: usize = 64 * 1024;

/// A running `docker-register`. It is killed when it goes out of scope; if the test fails, its log is printed.
pub struct Registrar {
    child: Mutex<Child>,
    pid: u32,
    stdout: Stream,
    stderr: Stream,
}

/// The output of a `docker-register` that has ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    /// Its log and its errors.
    pub stderr: String,
}

impl Registrar {
    /// A builder for a command line. [`super::TestBed::registrar`] also sets the test's Docker and etcd.
    pub fn command() -> RegistrarBuilder {
        RegistrarBuilder::default()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// The output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Stops reading its log, so that the pipe fills up.
    pub fn stop_reading_log(&self) {
        self.stderr.stalls.store(true, Ordering::SeqCst);
    }

    /// Reads its log again.
    pub fn read_log_again(&self) {
        self.stderr.stalls.store(false, Ordering::SeqCst);
    }

    /// Waits until its log contains `text`.
    ///
    /// # Panics
    ///
    /// If it does not before the deadline.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, deadline: Duration) {
        eventually(deadline, &format!("{text:?} in the log"), || {
            self.log().contains(text)
        });
    }

    /// Waits until its output contains `text`.
    ///
    /// # Panics
    ///
    /// If it does not before the deadline.
    #[track_caller]
    pub fn wait_for_stdout(&self, text: &str, deadline: Duration) {
        eventually(deadline, &format!("{text:?} on stdout"), || {
            self.stdout().contains(text)
        });
    }

    /// Waits until it logs the address that it listens on, and returns that.
    ///
    /// # Panics
    ///
    /// If it does not before [`SOON`].
    #[track_caller]
    pub fn address(&self) -> String {
        super::eventually_some(SOON, "the address that it listens on", || {
            let log = self.log();
            let (_, rest) = log.split_once("listening on http://")?;
            let (address, _) = rest.split_once('\n')?;
            Some(address.trim().to_owned())
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal, such as `TERM`, `HUP`, `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.pid, name);
    }

    /// Kills it, as a crash would, so that it cannot clean up in etcd. It has ended when this returns.
    pub fn kill9(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Sends it `TERM` and waits for its end.
    ///
    /// # Panics
    ///
    /// If it has not ended after [`SOON`].
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        self.signal("TERM");
        self.wait(SOON)
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not end before the deadline.
    #[track_caller]
    pub fn wait(&self, deadline: Duration) -> ExitStatus {
        super::eventually_some(deadline, "docker-register to end", || self.exited())
    }

    /// How it ended, or none while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child can be waited for")
    }

    /// Waits for its end and returns everything that it printed.
    ///
    /// # Panics
    ///
    /// If it does not end before the deadline.
    #[track_caller]
    pub fn output(self, deadline: Duration) -> Output {
        let status = self.wait(deadline);
        self.stdout.finish();
        self.stderr.finish();
        Output {
            status,
            stdout: self.stdout(),
            stderr: self.log(),
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().expect(UNPOISONED)
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            self.stdout.finish();
            self.stderr.finish();
            let (stdout, log) = (self.stdout(), self.log());
            eprintln!("docker-register printed:\n{stdout}docker-register logged:\n{log}");
        }
    }
}

/// The command line of a [`Registrar`].
#[derive(Clone, Default)]
pub struct RegistrarBuilder {
    flags: Vec<(String, OsString)>,
    filters: Vec<String>,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    stdin: Option<String>,
    closed_stdout: bool,
    stderr: Stderr,
    hosts: Option<PathBuf>,
    wrapper: Vec<String>,
}

/// The target of the log.
#[derive(Clone, Default)]
enum Stderr {
    /// A pipe that is read.
    #[default]
    Read,
    /// A pipe whose other end is closed.
    Closed,
    /// No descriptor at all.
    Missing,
    /// A pipe that is full, and not read before [`Registrar::read_log_again`].
    Full,
    File(PathBuf),
}

impl RegistrarBuilder {
    /// Sets a flag, such as `--ttl`, and replaces an earlier value.
    pub fn flag(self, name: &str, value: impl Into<OsString>) -> Self {
        let mut builder = self.without(name);
        builder.flags.push((name.to_owned(), value.into()));
        builder
    }

    /// Leaves out a flag that was set before.
    pub fn without(mut self, name: &str) -> Self {
        self.flags.retain(|(flag, _)| flag != name);
        self
    }

    /// Adds a container filter.
    pub fn filter(mut self, filter: &str) -> Self {
        self.filters.push(filter.to_owned());
        self
    }

    /// Adds an argument as it is, after the flags.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a variable to its environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the text on stdin, which is empty by default.
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    /// Closes the pipe on stdout before it prints anything, as `head` does when it has read enough.
    pub fn closed_stdout(mut self) -> Self {
        self.closed_stdout = true;
        self
    }

    /// Closes the pipe on stderr before it logs anything.
    pub fn closed_stderr(mut self) -> Self {
        self.stderr = Stderr::Closed;
        self
    }

    /// Starts it without stderr, like `2>&-`.
    pub fn without_stderr(mut self) -> Self {
        self.stderr = Stderr::Missing;
        self
    }

    /// Makes it log to a full pipe, which is not read before [`Registrar::read_log_again`].
    pub fn full_stderr(mut self) -> Self {
        self.stderr = Stderr::Full;
        self
    }

    /// Makes it log to a file.
    pub fn stderr_to(mut self, file: &Path) -> Self {
        self.stderr = Stderr::File(file.to_owned());
        self
    }

    /// Gives it an `/etc/hosts` of its own.
    pub fn hosts(mut self, file: &Path) -> Self {
        self.hosts = Some(file.to_owned());
        self
    }

    /// Starts it by a command that executes it, such as `nsenter`, as root.
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts `run`.
    pub fn start(&self) -> Registrar {
        self.spawn("run")
    }

    /// Starts a subcommand, such as `discover`.
    pub fn start_command(&self, subcommand: &str) -> Registrar {
        self.spawn(subcommand)
    }

    /// Runs a subcommand, such as `keys`, to its end.
    ///
    /// # Panics
    ///
    /// If it does not end within [`SOON`].
    #[track_caller]
    pub fn run(&self, subcommand: &str) -> Output {
        self.spawn(subcommand).output(SOON)
    }

    fn spawn(&self, subcommand: &str) -> Registrar {
        let program = env!("CARGO_BIN_EXE_docker-register");
        let mut command = if matches!(self.stderr, Stderr::Missing) {
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec \"$0\" \"$@\" 2>&-", program]);
            shell
        } else if let Some(hosts) = &self.hosts {
            let mut unshare = Command::new("unshare");
            let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
            // Another user may mount only in a user namespace.
            if !is_root() {
                unshare.arg("--map-root-user");
            }
            unshare.args(["--mount", "sh", "-c", script]);
            unshare.arg(hosts).arg(program);
            unshare
        } else if let [first, rest @ ..] = &self.wrapper[..] {
            let mut wrapper = as_root(first);
            wrapper.args(rest).arg(program);
            wrapper
        } else {
            Command::new(program)
        };
        command.arg(subcommand);
        for (name, value) in &self.flags {
            command.arg(name).arg(value);
        }
        for filter in &self.filters {
            command.arg("--filter").arg(filter);
        }
        command.args(&self.args);

        // The environment of the test run must not change the results.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if matches!(&*text, "HOST_IP" | "ETCD_HOST" | "STATE_DIRECTORY")
                || text.starts_with("DOCKER_REGISTER_")
            {
                command.env_remove(&name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));

        let (log, stderr) = self.stderr();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("docker-register can be run");
        // The command holds an end of the pipe, which would keep it open.
        drop(command);
        // Closed before stdin has data, so before the program acts.
        if self.closed_stdout {
            child.stdout = None;
        }
        let stdin = child.stdin.take().expect("stdin is a pipe");
        feed(stdin, self.stdin.clone().unwrap_or_default());
        Registrar {
            pid: child.id(),
            stdout: Stream::read(child.stdout.take()),
            stderr: Stream::start(log, matches!(self.stderr, Stderr::Full)),
            child: Mutex::new(child),
        }
    }

    /// The reading end of the log's pipe, if there is one, and the program's stderr.
    fn stderr(&self) -> (Option<PipeReader>, Stdio) {
        match &self.stderr {
            Stderr::Missing => (None, Stdio::null()),
            Stderr::File(path) => {
                let file = File::options().write(true).open(path);
                (None, file.expect("the file to log to").into())
            }
            Stderr::Read | Stderr::Closed | Stderr::Full => {
                let (reader, mut writer) = std::io::pipe().expect("a pipe");
                if matches!(self.stderr, Stderr::Full) {
                    writer
                        .write_all("\n".repeat(PIPE).as_bytes())
                        .expect("the pipe has room");
                }
                let is_closed = matches!(self.stderr, Stderr::Closed);
                ((!is_closed).then_some(reader), writer.into())
            }
        }
    }
}

/// Writes to a program that may not read all of it.
fn feed(mut pipe: impl Write + Send + 'static, text: String) {
    thread::spawn(move || pipe.write_all(text.as_bytes()));
}

/// An output stream of a program, read by a thread so that the program never waits for its reader.
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Whether the reader has stopped reading.
    stalls: Arc<AtomicBool>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Stream {
    /// Reads a pipe to its end, if there is one.
    fn read(pipe: Option<impl Read + Send + 'static>) -> Self {
        Self::start(pipe, false)
    }

    fn start(pipe: Option<impl Read + Send + 'static>, stalls: bool) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let stalls = Arc::new(AtomicBool::new(stalls));
        let waits = Arc::clone(&stalls);
        let reader = thread::spawn(move || {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = [0; 4096];
            loop {
                while waits.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(10));
                }
                let Ok(count @ 1..) = pipe.read(&mut buffer) else {
                    break;
                };
                let mut bytes = shared.lock().expect(UNPOISONED);
                bytes.extend_from_slice(&buffer[..count]);
            }
        });
        Stream {
            bytes,
            stalls,
            reader: Mutex::new(Some(reader)),
        }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().expect(UNPOISONED);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for the end of the output, at the end of the program.
    fn finish(&self) {
        self.stalls.store(false, Ordering::SeqCst);
        if let Ok(mut reader) = self.reader.lock()
            && let Some(reader) = reader.take()
        {
            let _ = reader.join();
        }
    }
}
