//! Timeouts for calls to Docker and to the store. They allow for the script, which shares their thread: while it runs,
//! no answer can be read.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// A timeout that fires this late was delayed by our own thread.
const LATE: Duration = Duration::from_millis(50);
/// The further timeout after such a delay, because an answer that has arrived meanwhile passes through several tasks.
pub const MOMENT: Duration = Duration::from_millis(500);

/// The output of `work`, or none if it takes longer than `limit`. A delay by our own thread does not count.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    // Boxed, because a future that pins `work` in place holds it twice, and those of store calls are large.
    let mut work = Box::pin(work);
    let mut limit = limit;
    loop {
        let begun = Instant::now();
        if let Ok(done) = timeout(limit, &mut work).await {
            return Some(done);
        }
        if begun.elapsed() < limit + LATE {
            return None;
        }
        limit = limit.min(MOMENT);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::task::yield_now;
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(40);

    #[tokio::test]
    async fn an_answer_that_could_not_be_read_in_time_still_counts() {
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async {
            sleep(LIMIT / 8).await;
            // Blocks the thread beyond the limit.
            std::thread::sleep(5 * LIMIT);
        });
        tokio::spawn(async {
            sleep(LIMIT / 2).await;
            // An answer passes through several tasks.
            yield_now().await;
            yield_now().await;
            answer.send(1)
        });
        assert_eq!(within(LIMIT, answered).await, Some(Ok(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_the_limit() {
        let begun = Instant::now();
        assert_eq!(within(LIMIT, pending::<()>()).await, None);
        assert!(begun.elapsed() < LIMIT + LATE);
    }
}
