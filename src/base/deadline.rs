//! Bounds in time for what waits for a partner.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// From when on a bound that is noticed late has been held up by something else.
const LATE: Duration = Duration::from_millis(50);
/// How long an answer may take then that is there and has not been read.
const MOMENT: Duration = Duration::from_millis(500);

/// What comes of `work` within `limit`; nothing if it takes longer. A script that had the thread meanwhile, so that nobody
/// could read the answer, is no fault of the partner's.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    // In place it would be there twice, and what waits for etcd is large.
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
    async fn an_answer_that_could_not_be_read_is_waited_for() {
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async {
            sleep(LIMIT / 8).await;
            // The thread is another's for so long.
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
    async fn none_is_waited_for_as_long_as_it_may_take() {
        let begun = Instant::now();
        assert_eq!(within(LIMIT, pending::<()>()).await, None);
        assert!(begun.elapsed() < LIMIT + LATE);
    }
}
