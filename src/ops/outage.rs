//! Paces the retries during a partner's outage, and keeps its log short: one line when it begins, one when it has
//! lasted too long, and one when it is over.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::condition::Condition;

/// The first wait before a retry; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait before a retry, so that a partner that is back is used within a second.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The time between two errors about one outage.
const REMINDER: Duration = Duration::from_secs(600);
/// The shortest time between two different messages about one outage. With several endpoints, each try may fail with
/// another message.
const NEWS: Duration = Duration::from_secs(10);
/// A partner that has been back for this long is steady. If it is lost sooner, the wait goes on growing.
const STEADY: Duration = Duration::from_secs(10);
/// A return that lasts less than this is brief, and does not end the outage.
const BRIEF: Duration = Duration::from_secs(1);
/// After this many brief returns in a row a partner is flapping. Further returns and losses are not logged until it is
/// steady.
const FLAPS: u32 = 2;

/// The state of one partner, whether it is in outage or not.
#[derive(Debug)]
pub struct Outage {
    partner: Cow<'static, str>,
    consequence: Cow<'static, str>,
    /// An outage of this length is logged as an error.
    serious: Duration,
    /// Some from the first failure until the partner is steady again.
    current: Option<Current>,
    /// Shows the outage to other tasks.
    condition: Option<Condition>,
}

#[derive(Debug)]
struct Current {
    message: String,
    /// Its beginning. Brief returns do not end it.
    since: Instant,
    /// The time of its last log line.
    said: Instant,
    /// The time of its last error.
    error: Option<Instant>,
    wait: Duration,
    /// The time of the partner's return, while it is back.
    back: Option<Instant>,
    /// The number of brief returns in a row.
    flaps: u32,
}

impl Outage {
    /// No outage yet with `partner`. `consequence` tells an operator what happens to the keys meanwhile. An outage
    /// that lasts for half of their `ttl` is an error.
    pub fn new(
        partner: impl Into<Cow<'static, str>>,
        consequence: impl Into<Cow<'static, str>>,
        ttl: Duration,
    ) -> Self {
        Self {
            partner: partner.into(),
            consequence: consequence.into(),
            serious: ttl / 2,
            current: None,
            condition: None,
        }
    }

    /// The same, and `condition` shows it.
    pub fn shown_by(self, condition: &Condition) -> Self {
        Self {
            condition: Some(condition.clone()),
            ..self
        }
    }

    /// Records a failure, logs it if it is news, and returns the wait before the next try.
    pub fn failed(&mut self, message: String) -> Duration {
        if let Some(condition) = &self.condition {
            condition.bad(&message);
        }
        self.end_if_steady();
        let now = Instant::now();
        let Some(current) = &mut self.current else {
            warn!("{message}; retrying, {}", self.consequence);
            self.current = Some(Current::new(message, now, FIRST_WAIT));
            return FIRST_WAIT;
        };
        let wait = (current.wait * 2).min(LONGEST_WAIT);
        let mut is_news = now - current.said >= NEWS && current.message != message;
        if let Some(back) = current.back.take()
            && !current.comes_and_goes()
        {
            is_news = true;
            if now - back < BRIEF {
                current.flaps += 1;
            } else {
                *current = Current::new(String::new(), now, wait);
            }
        }
        current.wait = wait;
        let lasts = now - current.since;
        let how = match (current.comes_and_goes(), lasts.as_secs()) {
            (true, seconds) => format!("flapping for {seconds} s"),
            (false, 0) => "retrying".to_owned(),
            (false, seconds) => format!("retrying for {seconds} s"),
        };
        let line = format!("{message}; {how}, {}", self.consequence);
        let is_error = match current.error {
            Some(said) => now - said >= REMINDER,
            None => lasts >= self.serious,
        };
        if is_error {
            error!("{line}");
            current.error = Some(now);
        } else if is_news {
            warn!("{line}");
        } else {
            debug!("{message}");
        }
        if is_error || is_news {
            current.said = now;
            current.message = message;
        }
        wait
    }

    /// Records a success: a useful answer, not just an open connection. It may be called for each.
    pub fn over(&mut self) {
        if let Some(condition) = &self.condition {
            condition.good();
        }
        self.end_if_steady();
        if let Some(current) = &mut self.current
            && current.back.is_none()
        {
            let now = Instant::now();
            current.back = Some(now);
            if !current.comes_and_goes() {
                current.tell_return(&self.partner, now);
            }
        }
    }

    /// Ends the outage if the partner is steady.
    fn end_if_steady(&mut self) {
        if let Some(current) = &self.current
            && let Some(back) = current.back
            && back.elapsed() >= STEADY
        {
            if current.comes_and_goes() {
                current.tell_return(&self.partner, back);
            }
            self.current = None;
        }
    }
}

impl Current {
    fn new(message: String, now: Instant, wait: Duration) -> Self {
        Self {
            message,
            since: now,
            said: now,
            error: None,
            wait,
            back: None,
            flaps: 0,
        }
    }

    fn comes_and_goes(&self) -> bool {
        self.flaps >= FLAPS
    }

    fn tell_return(&self, partner: &str, at: Instant) {
        let lasted = (at - self.since).as_secs_f64();
        info!("{partner} is back after {lasted:.1} s");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tokio::time::advance;
    use tracing::Level;
    use tracing::subscriber::{DefaultGuard, set_default};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TTL: Duration = Duration::from_secs(60);

    /// The log of this thread.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn begin() -> (Self, DefaultGuard) {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || writer.clone())
                .with_max_level(Level::INFO)
                .with_target(false)
                .with_ansi(false)
                .without_time();
            (log, set_default(subscriber.finish()))
        }

        /// The lines since the last call.
        fn lines(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            text.lines().map(|line| line.trim().to_owned()).collect()
        }
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outage() -> Outage {
        Outage::new("etcd", "keys stay", TTL)
    }

    fn refused(outage: &mut Outage) -> u128 {
        outage.failed("refused".to_owned()).as_millis()
    }

    /// Retries once a second.
    async fn retry(outage: &mut Outage, seconds: u32) {
        for _ in 0..seconds {
            advance(SECOND).await;
            refused(outage);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_a_second_and_start_anew_when_the_partner_is_steady() {
        let mut outage = outage();
        let waits: Vec<_> = (0..3).map(|_| refused(&mut outage)).collect();
        assert_eq!(waits, [50, 100, 200]);
        outage.over();
        advance(9 * SECOND).await;
        let waits: Vec<_> = (0..4).map(|_| refused(&mut outage)).collect();
        assert_eq!(waits, [400, 800, 1000, 1000]);
        outage.over();
        advance(STEADY).await;
        assert_eq!(refused(&mut outage), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_an_error_after_half_a_ttl_and_again_every_ten_minutes() {
        let (log, _guard) = Log::begin();
        let mut outage = outage();
        refused(&mut outage);
        retry(&mut outage, 29).await;
        assert_eq!(log.lines(), ["WARN refused; retrying, keys stay"]);
        retry(&mut outage, 600).await;
        assert_eq!(log.lines(), ["ERROR refused; retrying for 30 s, keys stay"]);
        retry(&mut outage, 601).await;
        let reminders =
            [630, 1230].map(|s| format!("ERROR refused; retrying for {s} s, keys stay"));
        assert_eq!(log.lines(), reminders);
        outage.over();
        assert_eq!(log.lines(), ["INFO etcd is back after 1230.0 s"]);
        advance(TTL).await;
        outage.over();
        refused(&mut outage);
        assert_eq!(log.lines(), ["WARN refused; retrying, keys stay"]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_message_is_news_once_in_ten_seconds() {
        let (log, _guard) = Log::begin();
        let mut outage = outage();
        for second in 0..=20 {
            let message = if second % 2 == 0 {
                "refused"
            } else {
                "no route"
            };
            outage.failed(message.to_owned());
            advance(SECOND).await;
        }
        assert_eq!(
            log.lines(),
            [
                "WARN refused; retrying, keys stay",
                "WARN no route; retrying for 11 s, keys stay",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn outages_that_are_seconds_apart_are_each_logged() {
        let (log, _guard) = Log::begin();
        let mut outage = outage();
        for _ in 0..5 {
            refused(&mut outage);
            advance(SECOND).await;
            outage.over();
            advance(SECOND).await;
        }
        let each = [
            "WARN refused; retrying, keys stay",
            "INFO etcd is back after 1.0 s",
        ];
        assert_eq!(log.lines(), each.repeat(5));
    }

    /// Returns, and is lost again after a tenth of a second, `times` times.
    async fn flap(outage: &mut Outage, times: u32) {
        for _ in 0..times {
            outage.over();
            advance(SECOND / 10).await;
            let wait = outage.failed("lost".to_owned());
            advance(wait).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_partner_that_flaps_is_logged_as_one_outage() {
        let (log, _guard) = Log::begin();
        let mut outage = outage();
        outage.failed("lost".to_owned());
        flap(&mut outage, 2).await;
        assert_eq!(
            log.lines(),
            [
                "WARN lost; retrying, keys stay",
                "INFO etcd is back after 0.0 s",
                "WARN lost; retrying, keys stay",
                "INFO etcd is back after 0.2 s",
                "WARN lost; flapping for 0 s, keys stay",
            ]
        );
        flap(&mut outage, 25).await;
        assert_eq!(log.lines(), [""; 0]);
        flap(&mut outage, 10).await;
        assert_eq!(log.lines(), ["ERROR lost; flapping for 30 s, keys stay"]);
        // It returns for longer, but is not steady yet.
        outage.over();
        advance(5 * SECOND).await;
        outage.over();
        refused(&mut outage);
        assert_eq!(log.lines(), ["WARN refused; flapping for 43 s, keys stay"]);
        outage.over();
        advance(STEADY).await;
        outage.over();
        outage.over();
        assert_eq!(log.lines(), ["INFO etcd is back after 43.2 s"]);
        refused(&mut outage);
        assert_eq!(log.lines(), ["WARN refused; retrying, keys stay"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_not_repeated_after_a_brief_return() {
        let (log, _guard) = Log::begin();
        let mut outage = outage();
        refused(&mut outage);
        retry(&mut outage, 30).await;
        flap(&mut outage, 1).await;
        retry(&mut outage, 30).await;
        let errors = log
            .lines()
            .into_iter()
            .filter(|line| line.starts_with("ERROR"));
        assert_eq!(errors.count(), 1);
    }
}
