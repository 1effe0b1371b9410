//! Explains the client's errors to an operator.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use anyhow::anyhow;
use etcd_client::Error;

use super::WORDS;
use super::settings::Settings;
use crate::base::text::quote;
use crate::store::{Password, StoreError};

/// The gRPC codes after which another member may succeed: cancelled, unknown, deadline exceeded, internal, unavailable.
/// Any other code is etcd's answer, and another member would give the same.
const TROUBLED: [i32; 5] = [1, 2, 4, 13, UNAVAILABLE];
/// The code of a call for which no connection could be made.
const UNAVAILABLE: i32 = 14;

/// etcd's message for a right that the user does not have (`ErrGRPCPermissionDenied` in `rpctypes/error.go`).
const DENIED: &str = "permission denied";
/// etcd's message for a put when its quota is used up (`ErrGRPCNoSpace`).
const NO_SPACE: &str = "mvcc: database space exceeded";

/// Whether etcd itself has answered, so that another member would give the same answer.
pub fn is_answer(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => {
            !TROUBLED.contains(&(status.code() as i32)) && root_cause(status).is_none()
        }
        _ => false,
    }
}

/// Explains why a call at this endpoint failed; `is_new` if it was the first on a new connection.
pub fn explain(settings: &Settings, endpoint: &str, is_new: bool, error: Error) -> StoreError {
    let at = quote(endpoint);
    StoreError::Failed(match &error {
        Error::GRpcStatus(status) => {
            let is_connected = status.code() as i32 != UNAVAILABLE;
            let message = status.message();
            if message.contains("requested lease not found") {
                return StoreError::LeaseLost;
            }
            match root_cause(status) {
                Some(cause) => {
                    anyhow!(explain_connection(
                        settings,
                        &at,
                        is_new,
                        is_connected,
                        cause
                    ))
                }
                None => anyhow!(
                    "etcd at {at} answered: {}",
                    explain_answer(settings, message)
                ),
            }
        }
        // The endpoint and the files have been checked, so this is the only cause left.
        Error::TransportError(error) if settings.tls.is_some() => {
            let cause = root_cause(error).map_or(String::new(), |cause| format!(" ({cause})"));
            anyhow!(
                "this system has no list of CAs to verify etcd at {at} with{cause}: pass --etcd-cacert FILE"
            )
        }
        _ => anyhow::Error::new(error).context(format!("etcd at {at}")),
    })
}

/// etcd's message, with the remedy.
fn explain_answer(settings: &Settings, message: &str) -> String {
    let message = message.trim_start_matches("etcdserver: ");
    let what_now = match (message, &settings.user) {
        (DENIED, _) => {
            let user = user(settings);
            return format!(
                "{DENIED}: give {user} the role to read and write the keys (`etcdctl role grant-permission`)"
            );
        }
        (NO_SPACE, _) => {
            ": compact it (`etcdctl compact REVISION`), defragment it (`etcdctl defrag`), and then disarm its alarm \
             (`etcdctl alarm disarm`)"
        }
        ("user name is empty", _) => ": it requires a user, so pass --etcd-user",
        ("authentication is not enabled", _) => ": it knows no users, so leave out --etcd-user",
        ("authentication failed, invalid user ID or password", Some(user)) => {
            return match &user.password {
                Password::File(path) => {
                    format!("{message}: put the right one into `{}`", path.display())
                }
                Password::Text(_) => format!(
                    "{message}: restart with the right one in DOCKER_REGISTER_ETCD_PASSWORD"
                ),
            };
        }
        _ => "",
    };
    format!("{message}{what_now}")
}

/// The user as whom we speak to etcd.
fn user(settings: &Settings) -> String {
    let identity = settings.tls.as_ref().and_then(|tls| tls.identity.as_ref());
    match (&settings.user, identity) {
        (Some(user), _) => format!("user {}", quote(&user.name)),
        (None, Some((certificate, _))) => format!(
            "the user that our certificate `{}` names (CN)",
            certificate.display()
        ),
        (None, None) => "its user".to_owned(),
    }
}

/// Says what was done with which keys, if etcd has denied it: its own message does not name them.
pub fn name_keys<T>(
    result: Result<T, StoreError>,
    what: impl FnOnce() -> String,
) -> Result<T, StoreError> {
    match result {
        Err(StoreError::Refused(error)) if error.to_string().contains(DENIED) => {
            Err(StoreError::Refused(error.context(what())))
        }
        other => other,
    }
}

/// Explains why there is no connection, or why it was lost.
fn explain_connection(
    settings: &Settings,
    at: &str,
    is_new: bool,
    is_connected: bool,
    cause: &(dyn StdError + 'static),
) -> String {
    let tls = settings.tls.as_ref();
    if let Some(why) = tls.and_then(|tls| tls.explain(&WORDS, at, cause)) {
        return why;
    }
    // One message for all of these errors, because the same cause gives different ones from try to try.
    if is_new && is_end(cause) {
        let what_now = match tls {
            None => "if it speaks TLS, write https:// before it".to_owned(),
            Some(_) if !is_connected => {
                "if it does not speak TLS, write http:// before it and leave out --etcd-cacert and the like"
                    .to_owned()
            }
            Some(tls) => tls.when_refused(&WORDS),
        };
        return format!("cannot reach etcd at {at}: it closes the connection; {what_now}");
    }
    format!("cannot reach etcd at {at}: {cause}")
}

/// Whether the other side has closed the connection. etcd refuses our certificate only after our part of the handshake,
/// and the end of the connection may overtake its alert.
fn is_end(cause: &(dyn StdError + 'static)) -> bool {
    const ENDS: [ErrorKind; 4] = [
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
        ErrorKind::UnexpectedEof,
    ];
    // An alert arrives as text here. A call on a connection that is already closed gets no I/O error.
    match cause.downcast_ref::<io::Error>() {
        Some(error) => {
            ENDS.contains(&error.kind()) || error.to_string().starts_with("received fatal alert")
        }
        None => cause.to_string() == "connection closed",
    }
}

/// The innermost cause of a client's error, such as "connection refused".
fn root_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause)
}
