//! Tells a role how long calls to a partner take, and which of them fail. The room that makes the calls knows no role.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// The function that is told of each call; the default is nobody. A clone is the same.
#[derive(Clone, Default)]
pub struct Calls(Option<Arc<Observer>>);

/// Takes the duration of a call, and whether it failed.
type Observer = dyn Fn(Duration, bool) + Send + Sync;

impl Calls {
    pub fn told_to(observer: impl Fn(Duration, bool) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observer)))
    }

    /// Tells of a call that began at `begun`.
    pub fn tell(&self, begun: Instant, failed: bool) {
        if let Some(observer) = &self.0 {
            observer(begun.elapsed(), failed);
        }
    }

    /// Makes a call, and tells of it. `failed` judges its result.
    pub fn time<F: Future, P: FnOnce(&F::Output) -> bool>(
        &self,
        call: F,
        failed: P,
    ) -> impl Future<Output = F::Output> + use<F, P> {
        let calls = self.clone();
        async move {
            let begun = Instant::now();
            let result = call.await;
            calls.tell(begun, failed(&result));
            result
        }
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_call_is_told_with_its_duration_and_result() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&told);
        let calls = Calls::told_to(move |took, failed| list.lock().unwrap().push((took, failed)));
        let second = Duration::from_secs(1);
        let call = async {
            sleep(second).await;
            Err::<(), ()>(())
        };
        assert_eq!(calls.time(call, Result::is_err).await, Err(()));
        Calls::default().time(sleep(second), |()| false).await;
        assert_eq!(*told.lock().unwrap(), [(second, true)]);
    }
}
