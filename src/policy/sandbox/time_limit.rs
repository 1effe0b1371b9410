//! The time limit of a script's calls. It counts the processor time of the thread and not the wall clock, because a
//! busy host that lets the thread wait is no fault of the script.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::failure::Failure;

/// The processor time of one call of a policy function, or of loading a script.
const LIMIT: Duration = Duration::from_secs(1);
/// The error of a call that exceeds [`LIMIT`].
pub const TOO_LONG: &str = "it took longer than a second, and was stopped";

/// The time limit of the call that is under way, if there is one.
#[derive(Debug, Default)]
pub struct TimeLimit {
    deadline: Cell<Option<Duration>>,
}

impl TimeLimit {
    /// Begins a call. Returns the deadline of the call around it, for [`Self::end`].
    pub fn begin(&self) -> Option<Duration> {
        self.deadline.replace(Some(processor_time() + LIMIT))
    }

    /// Ends a call. The call around it gets its whole time again: the inner call had a limit of its own.
    pub fn end(&self, outer: Option<Duration>) {
        self.deadline.set(outer.map(|_| processor_time() + LIMIT));
    }

    /// Raises an error if the call has exceeded its time.
    pub fn check(&self) -> mlua::Result<()> {
        match self.deadline.get() {
            Some(deadline) if processor_time() > deadline => Err(Failure::raise(TOO_LONG)),
            _ => Ok(()),
        }
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}
