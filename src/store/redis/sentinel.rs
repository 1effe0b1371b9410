//! Asks a sentinel for the server that is the primary at present.

use std::time::Duration;

use anyhow::anyhow;
use redis::{RedisError, Value, cmd, from_redis_value};

use super::NAME;
use super::failure::CallError;
use super::link::{Link, Peer, Request, info};
use super::settings::Settings;
use crate::base::text::quote;
use crate::store::endpoint::Endpoint;

/// The `host:port` of the primary that a sentinel knows by the name `master`.
///
/// Sentinels mostly have no password, and those that have one mostly have that of the servers. So it is sent when it is
/// asked for.
pub async fn ask(
    settings: &Settings,
    sentinel: &Endpoint,
    master: &str,
    limit: Duration,
) -> Result<String, CallError> {
    let mut answer = ask_as(settings, sentinel, master, limit, None).await;
    if let (Err(error), Some(user)) = (&answer, &settings.user)
        && error.code() == Some("NOAUTH")
    {
        let password = user.read_password(NAME).map_err(CallError::Settings)?;
        let credentials = Some((user.name.as_str(), password.as_str()));
        answer = ask_as(settings, sentinel, master, limit, credentials).await;
    }
    let peer = Peer {
        name: sentinel.shown(),
        is_sentinel: true,
    };
    match answer {
        Err(error) => Err(CallError::of(&peer, error)),
        Ok(Value::Nil) => Err(CallError::Away(anyhow!(
            "the sentinel at {} knows no primary with the name {}",
            quote(&peer.name),
            quote(master)
        ))),
        Ok(address) => {
            let address = from_redis_value::<(String, u16)>(address);
            let (host, port) = address.map_err(|error| CallError::of(&peer, error.into()))?;
            // An IPv6 address comes without brackets.
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host
            };
            Ok(format!("{host}:{port}"))
        }
    }
}

async fn ask_as(
    settings: &Settings,
    sentinel: &Endpoint,
    master: &str,
    limit: Duration,
    credentials: Option<(&str, &str)>,
) -> Result<Value, RedisError> {
    let mut info = info();
    if let Some((user, password)) = credentials {
        info = info.set_username(user).set_password(password);
    }
    let mut link = Link::open_one(settings, sentinel, &info, limit, None).await?;
    let mut question = cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    link.ask(&Request::Command(question)).await
}
