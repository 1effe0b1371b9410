//! What systemd is told where it has started the program (`Type=notify`): when it is ready, how it is, and that it has
//! not hung.

use std::future::pending;
use std::time::Duration;

use futures_util::future::select_all;
use sd_notify::{NotifyState, notify};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;

use super::readiness::Readiness;

/// How long the end of the program waits for the service manager.
const GOODBYE: Duration = Duration::from_secs(1);

/// Tells systemd of every change, for ever. Returns at once if systemd does not listen.
pub async fn follow(readiness: Readiness) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut conditions = readiness.subscribe();
    let mut said = String::new();
    let mut is_ready = false;
    let watchdog = feed_watchdog(&readiness);
    tokio::pin!(watchdog);
    loop {
        let problems = readiness.problems();
        let text = match problems.first() {
            None => "in step with Docker".to_owned(),
            // Each line is a message of its own.
            Some(first) => first.lines().next().unwrap_or_default().to_owned(),
        };
        // In one message: a unit that is ready has the text that says so.
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

/// Says that the program is about to end. A service manager that does not listen delays the end by little.
pub async fn say_goodbye() {
    let _ = timeout(GOODBYE, tell(&[NotifyState::Stopping])).await;
}

/// Tells the watchdog, if there is one, that both threads are alive: this runs on one, and asks the script's.
async fn feed_watchdog(readiness: &Readiness) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    let pause = limit / 4;
    loop {
        // At least a second, for a policy may take as long.
        let patience = pause.max(Duration::from_secs(2));
        if readiness.is_alive_within(patience).await {
            tell(&[NotifyState::Watchdog]).await;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Sends one message. A service manager that hangs keeps the sender waiting once its socket is full, so another thread
/// sends, and at most one message waits.
async fn tell(what: &[NotifyState<'_>]) {
    static SENDING: Mutex<()> = Mutex::const_new(());
    let text: Vec<String> = what.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    let sending = SENDING.lock().await;
    let sent = spawn_blocking(move || {
        let _sending = sending;
        notify(&[NotifyState::Custom(&text)])
    });
    // A service manager that is not there is no reason to do anything else.
    if let Ok(Err(error)) = sent.await {
        debug!("cannot tell systemd: {error}");
    }
}
