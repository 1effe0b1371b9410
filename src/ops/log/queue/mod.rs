//! The queue of log lines for stderr. Logging only adds a line to it; one thread writes them. A reader that stalls
//! holds up that thread alone: lines that no longer fit are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The size of the queue, in bytes.
const MOST: usize = 1 << 20;
/// The pause between two attempts to write to a full non-blocking pipe.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<Buffer>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: VecDeque<Box<[u8]>>,
    /// The size of the queued lines and of the line that is being written.
    bytes: usize,
    /// Whether the writer has written everything and sleeps.
    idle: bool,
    /// Lines dropped since the start.
    dropped: u64,
    /// Dropped lines that the writer has not reported yet.
    unreported: u64,
}

impl Queue {
    /// Adds a line, or drops it if it does not fit. Never waits for the writer.
    ///
    /// After a dropped line, all further lines are dropped until half of the queue is written. So one report has the
    /// number of missing lines, at the place of the gap. A line larger than the queue fits into an empty one.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.unreported > 0 || (state.bytes > 0 && state.bytes + line.len() > MOST) {
            state.dropped += 1;
            state.unreported += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.into());
        // Waking a thread costs a system call.
        if mem::take(&mut state.idle) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Writes the lines to `out` for ever. Calls `report` with the number of dropped lines once there is room again. A
    /// line that cannot be written is lost.
    pub fn write_to(&self, mut out: impl Write, report: impl Fn(u64)) -> ! {
        let mut state = self.state();
        loop {
            let Some(line) = state.lines.pop_front() else {
                state.idle = true;
                self.emptied.notify_all();
                let woken = self.filled.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let _ = write(&mut out, &line);
            state = self.state();
            state.bytes -= line.len();
            if state.unreported > 0 && state.bytes <= MOST / 2 {
                let unreported = mem::take(&mut state.unreported);
                drop(state);
                report(unreported);
                state = self.state();
            }
        }
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let _ = self
            .emptied
            .wait_timeout_while(self.state(), limit, |state| !state.idle);
    }

    /// The number of lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, Buffer> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a whole line, also to a pipe that another process has made non-blocking.
fn write(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
