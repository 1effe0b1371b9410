//! Messages to systemd, if it has started the program (`Type=notify`): ready, status, stopping, and the watchdog's
//! sign of life.

use std::future::pending;
use std::time::Duration;

use futures_util::future::select_all;
use sd_notify::{NotifyState, notify};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;

use super::readiness::Roles;

/// The longest time that the exit waits for the service manager.
const GOODBYE: Duration = Duration::from_secs(1);

/// Reports every change to systemd, for ever. Returns at once if systemd does not listen.
pub async fn follow(roles: Roles) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut conditions = roles.subscribe();
    let mut said = String::new();
    let mut is_ready = false;
    let watchdog = feed_watchdog(&roles);
    tokio::pin!(watchdog);
    loop {
        let problems = roles.problems();
        let notices = roles.notices();
        let text = match problems.first().or(notices.first()) {
            None => "in step with Docker".to_owned(),
            // A status is one line.
            Some(first) => first.lines().next().unwrap_or_default().to_owned(),
        };
        // In one message, so that a unit is never ready with the status text of an earlier problem.
        let mut news = Vec::new();
        if problems.is_empty() && !is_ready {
            is_ready = true;
            news.push(NotifyState::Ready);
        }
        if text != said {
            news.push(NotifyState::Status(&text));
        }
        if !news.is_empty() {
            tell(&news).await;
            said = text;
        }
        let changes = conditions
            .iter_mut()
            .map(|condition| Box::pin(condition.changed()));
        tokio::select! {
            _ = select_all(changes) => {}
            () = &mut watchdog => {}
        }
    }
}

/// Reports that the program is stopping. A service manager that hangs delays the exit by [`GOODBYE`] at most.
pub async fn say_goodbye() {
    let _ = timeout(GOODBYE, tell(&[NotifyState::Stopping])).await;
}

/// Feeds the watchdog, if there is one, while both threads are alive. It runs on the second thread, and asks the
/// script's.
async fn feed_watchdog(roles: &Roles) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    let pause = limit / 4;
    loop {
        // More than a second, because one call of the policy may take that long.
        let patience = pause.max(Duration::from_secs(2));
        if roles.is_alive_within(patience).await {
            tell(&[NotifyState::Watchdog]).await;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Sends one message. The send blocks if the service manager hangs and its socket is full, so it runs on another
/// thread. At most one message waits.
async fn tell(what: &[NotifyState<'_>]) {
    static SENDING: Mutex<()> = Mutex::const_new(());
    let text: Vec<String> = what.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    let sending = SENDING.lock().await;
    let sent = spawn_blocking(move || {
        let _sending = sending;
        notify(&[NotifyState::Custom(&text)])
    });
    // A missing service manager is no failure.
    if let Ok(Err(error)) = sent.await {
        debug!("cannot tell systemd: {error}");
    }
}
