//! Explains the errors of Redis, and of connections to it, to an operator.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use anyhow::anyhow;
use redis::RedisError;

use super::link::Peer;
use super::settings::Settings;
use super::tls::{OwnFault, WORDS};
use crate::base::text::{printable, quote};
use crate::store::{Password, StoreError};

/// The error of a call, or of the link that it needs.
pub enum CallError {
    /// An error in our own files, so no other server can help.
    Settings(anyhow::Error),
    /// The server is not one that can be used.
    Unfit(anyhow::Error),
    /// The server cannot be used now, and another one may.
    Away(anyhow::Error),
    /// An error of Redis, or of the network.
    Redis(Peer, RedisError),
}

impl CallError {
    pub fn of(peer: &Peer, error: RedisError) -> Self {
        let fault =
            network_error(&error).and_then(|cause| cause.get_ref()?.downcast_ref::<OwnFault>());
        match fault {
            Some(fault) => Self::Settings(anyhow!("{fault}")),
            None => Self::Redis(peer.clone(), error),
        }
    }
}

/// The codes of answers after which another server may do better, or the same one later: it loads its data, it has lost
/// its primary or is a replica, or a script blocks it.
const TROUBLED: [&str; 6] = [
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
];

/// The commands and keys that an ACL must allow.
const RIGHTS: &str = "~docker-register:* +evalsha +script|load +get +set +del +exists +type +pttl +pexpireat \
                      +incr +hget +hset +hdel +hlen +hkeys +hexists +hscan +zadd +zrem +zscore +zrangebyscore +zrangebylex \
                      +scan +time +info +ping +hello +select +psubscribe +config|get";

/// An answer of Redis that is an error.
struct Answer {
    /// The first word, such as `NOPERM`.
    code: String,
    message: String,
}

impl Answer {
    /// None if Redis has not answered.
    fn of(error: &RedisError) -> Option<Self> {
        let code = error.code()?;
        let message = error.detail().unwrap_or_default();
        // Redis 6.2 wraps the error of a command in a script: `ERR Error running script (call to …): …: -OOM command …`.
        let inner = message
            .rsplit_once(": -")
            .filter(|_| message.starts_with("Error running script"));
        let (code, message) = match inner.and_then(|(_, inner)| inner.split_once(' ')) {
            Some(inner) => inner,
            None => (code, message),
        };
        // Newer ones append the place in the script.
        let message = message.split(" script: ").next().unwrap_or(message);
        Some(Self {
            code: code.to_owned(),
            message: printable(message.trim_end_matches('.')),
        })
    }
}

/// Explains why a call failed; `is_new` if it was the first on a new connection.
pub fn explain(settings: &Settings, is_new: bool, error: CallError) -> StoreError {
    match error {
        CallError::Settings(error) | CallError::Away(error) => StoreError::Failed(error),
        CallError::Unfit(error) => StoreError::Refused(error),
        CallError::Redis(peer, error) => explain_redis(settings, &peer, is_new, &error),
    }
}

/// Explains an error that a script has caught and returned as text.
pub fn explain_caught(settings: &Settings, at: &str, text: &str) -> StoreError {
    let text = text.trim_start_matches('-');
    let (code, message) = text.split_once(' ').unwrap_or((text, ""));
    let message = message.split(" script: ").next().unwrap_or(message);
    let answer = Answer {
        code: code.to_owned(),
        message: printable(message),
    };
    StoreError::Refused(anyhow!(
        "Redis at {} answered: {}",
        quote(at),
        explain_answer(settings, &answer)
    ))
}

fn explain_redis(settings: &Settings, peer: &Peer, is_new: bool, error: &RedisError) -> StoreError {
    let who = if peer.is_sentinel {
        "the sentinel"
    } else {
        "Redis"
    };
    let at = quote(&peer.name);
    if let Some(answer) = Answer::of(error) {
        let words = anyhow!(
            "{who} at {at} answered: {}",
            explain_answer(settings, &answer)
        );
        return if TROUBLED.contains(&answer.code.as_str()) {
            StoreError::Failed(words)
        } else {
            StoreError::Refused(words)
        };
    }
    if error.kind() == redis::ErrorKind::RESP3NotSupported {
        return StoreError::Refused(anyhow!(
            "{who} at {at} is older than 6.2, which docker-register needs"
        ));
    }
    if error.kind() == redis::ErrorKind::Parse {
        let what_now = match settings.tls {
            None => ": if it speaks TLS, write rediss:// before it",
            Some(_) => "",
        };
        return StoreError::Failed(anyhow!(
            "the program at {at} does not speak Redis's protocol{what_now}"
        ));
    }
    StoreError::Failed(match network_error(error) {
        Some(cause) => anyhow!(explain_connection(
            settings,
            &format!("{who} at {at}"),
            &at,
            is_new,
            cause
        )),
        None => anyhow!("cannot speak with {who} at {at}: {error}"),
    })
}

/// Redis's message, with the remedy. The codes are in `shared` of its `server.c`, and in `acl.c`.
fn explain_answer(settings: &Settings, answer: &Answer) -> String {
    let Answer { code, message } = answer;
    let what_now = match (code.as_str(), &settings.user) {
        ("NOPERM", _) => {
            return format!("{message}: {}", rights(settings));
        }
        ("NOAUTH", _) => {
            "it requires a password, so pass --store-password-file FILE, and --store-user NAME with an ACL"
        }
        ("WRONGPASS", Some(user)) => {
            return match &user.password {
                Password::File(path) => format!(
                    "{message}: put the right password of user {} into `{}`",
                    quote(&user.name),
                    path.display()
                ),
                Password::Text(_) => format!(
                    "{message}: restart with the right password of user {} in DOCKER_REGISTER_STORE_PASSWORD",
                    quote(&user.name)
                ),
            };
        }
        ("OOM", _) => "its memory is full: raise its `maxmemory`, or delete what needs it",
        ("READONLY", _) => "it has become a replica",
        ("MASTERDOWN", _) => "it is a replica that has lost its primary",
        ("MISCONF", _) => {
            "it cannot write its snapshots (its log tells the cause), and takes no writes until it can"
        }
        ("NOREPLICAS", _) => "it has fewer replicas than its `min-replicas-to-write`",
        ("BUSY", _) => "another program's script keeps it from answering",
        ("MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT", _) => {
            "it is part of a cluster, which docker-register cannot use: use a Redis without `cluster-enabled`"
        }
        ("WRONGTYPE", _) => {
            "another program has changed the records that begin with `docker-register:`, or the key is no string; delete it"
        }
        ("ERR", _) if message.starts_with("DB index is out of range") => {
            return format!(
                "it has no database {}: its `databases` says how many it has",
                settings.db
            );
        }
        ("ERR", Some(_)) if message.contains("without any password configured") => {
            "it has no password, so leave out --store-user and the password"
        }
        ("LOADING", _) => "",
        _ => return format!("{code} {message}"),
    };
    if what_now.is_empty() {
        message.clone()
    } else {
        format!("{message}: {what_now}")
    }
}

/// The remedy for a right that the user does not have. Redis compares the pattern of a subscription with that of the right
/// letter by letter, so it names the database and the very prefix, which ends with a slash in `discover`.
fn rights(settings: &Settings) -> String {
    let name = settings.user.as_ref().map_or("default", |user| &user.name);
    format!(
        "give user {} the rights to its commands and keys, with its --prefix in place of PREFIX: `ACL SETUSER {} \
         ~PREFIX/* &__keyspace@{}__:PREFIX/* {RIGHTS}`",
        quote(name),
        printable(name),
        settings.db
    )
}

/// Names the keys in a refusal: Redis's own message does not.
pub fn name_keys<T>(
    result: Result<T, StoreError>,
    what: impl FnOnce() -> String,
) -> Result<T, StoreError> {
    match result {
        Err(StoreError::Refused(error)) => Err(StoreError::Refused(error.context(what()))),
        other => other,
    }
}

/// Explains why there is no connection, or why it was lost. `whom` is the server with its address `at`.
fn explain_connection(
    settings: &Settings,
    whom: &str,
    at: &str,
    is_new: bool,
    cause: &io::Error,
) -> String {
    let tls = settings.tls.as_ref();
    if let Some(why) = tls.and_then(|tls| tls.explain(&WORDS, at, cause)) {
        return why;
    }
    // One message for all of these errors, because the same cause gives different ones from try to try.
    if is_new && is_end(cause) {
        let what_now = match tls {
            None => "if it speaks TLS, write rediss:// before it".to_owned(),
            Some(tls) => tls.when_refused(&WORDS),
        };
        return format!("cannot reach {whom}: it closes the connection; {what_now}");
    }
    if is_end(cause) {
        return format!("{whom} has closed the connection");
    }
    format!("cannot reach {whom}: {cause}")
}

/// The error of the network behind one of the client, which puts it into an `Arc`.
fn network_error(error: &RedisError) -> Option<&io::Error> {
    let cause = error.source()?;
    match cause.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(shared) => shared.downcast_ref(),
        None => cause.downcast_ref(),
    }
}

/// Whether the other side has closed the connection.
fn is_end(cause: &io::Error) -> bool {
    const ENDS: [ErrorKind; 4] = [
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
        ErrorKind::UnexpectedEof,
    ];
    ENDS.contains(&cause.kind())
}
