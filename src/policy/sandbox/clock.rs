//! The time that a script takes.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor's time that this thread has had. Unlike the time on the wall it does not run on while a busy host lets
/// the thread wait, which is no fault of the script's.
pub fn time_taken() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}
