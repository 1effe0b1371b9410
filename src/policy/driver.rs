//! Drives a role's policy for as long as the program runs: through its failures, and through signals.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::error;

use super::Failure;
use super::script::Script;
use crate::ops::condition::Condition;
use crate::ops::loads::Loads;
use crate::ops::signals::{Request, Signals};

/// The pause before a failed `run` is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// The time between two log lines about the same failure of `run`.
const REMINDER: Duration = Duration::from_secs(60);

/// The world of a role's policy.
pub trait Role {
    /// The call over which the policy's `run` loops.
    const SOURCE: &'static str;
    /// The word for the results that stay while the policy fails, for the log.
    const KEPT: &'static str;

    /// Loads the policy. Its text has a second of processor time, and may not wait.
    ///
    /// # Errors
    ///
    /// If the script cannot be read, fails, or returns no policy.
    fn load(&self) -> Result<Script, Failure>;

    /// Shows whether the policy works.
    fn condition(&self) -> &Condition;

    /// Whether the policy has made something, which stays while it fails.
    fn has_begun(&self) -> bool;
}

/// Runs a policy until a signal ends it, and loads it again when a signal asks for that.
///
/// # Errors
///
/// The failure of a policy that has made nothing yet.
pub async fn drive(
    role: &impl Role,
    mut script: Script,
    loads: &Loads,
    signals: &mut Signals,
) -> Result<(), Failure> {
    loop {
        tokio::select! {
            // The script comes first, because signals are rare.
            biased;
            failure = run(role, &script) => return Err(failure),
            request = signals.next() => match request {
                Request::End => return Ok(()),
                Request::Reload => match role.load() {
                    Ok(new) => {
                        loads.renewed(new.version());
                        script = new;
                    }
                    Err(failure) => loads.failed(&failure.to_string()),
                },
            },
        }
    }
}

/// Runs the script, and starts it again after each failure.
async fn run<R: Role>(role: &R, script: &Script) -> Failure {
    let mut said: Option<(Failure, Instant)> = None;
    loop {
        let failure = match script.run().await {
            Ok(()) => Failure::new(format!(
                "the policy's `run` returned; it must loop over `{}`, which never ends",
                R::SOURCE
            )),
            Err(failure) => failure,
        };
        if !role.has_begun() {
            return failure;
        }
        role.condition().bad(&failure.to_string());
        if !matches!(&said, Some((last, at)) if *last == failure && at.elapsed() < REMINDER) {
            let kept = R::KEPT;
            error!(
                "{failure}\n  all {kept} stay as they were; `run` is started again every second"
            );
            said = Some((failure, Instant::now()));
        }
        sleep(PAUSE).await;
    }
}
