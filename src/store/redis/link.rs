//! A link to one server: a connection of our own, over TLS if that is set, on which the user is authenticated and the
//! server is known to be fit.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, Value,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::NAME;
use super::failure::CallError;
use super::script::{Input, Script};
use super::sentinel;
use super::server;
use super::settings::{Place, Settings};
use super::tls;
use super::touched::Touched;
use crate::store::endpoint::Endpoint;

pub struct Link {
    peer: Peer,
    connection: MultiplexedConnection,
    /// Ends the task that reads and writes, which may wait for a server that hangs.
    task: AbortHandle,
}

/// The name that a server has in messages, and what is to be known of it to explain an error.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// `host:port`, with the address in use if there are several, and the name that Sentinel knows.
    pub name: String,
    pub is_sentinel: bool,
}

/// One request.
#[derive(Clone)]
pub enum Request {
    Script(&'static Script, Input),
    Command(Cmd),
    /// Several commands, of which each has an answer.
    Commands(Pipeline),
    /// A subscription to the channels of a pattern.
    Subscribe(String),
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Opens a link to the endpoint, or to the server that it names if it is a sentinel. `touched` is told of the changes
    /// that Redis tells of.
    pub async fn open(
        settings: &Settings,
        endpoint: &Endpoint,
        limit: Duration,
        touched: Option<&Touched>,
    ) -> Result<Self, CallError> {
        match &settings.place {
            Place::Servers(_) => Self::open_server(settings, endpoint, None, limit, touched).await,
            Place::Sentinel { master, .. } => {
                let server = sentinel::ask(settings, endpoint, master, limit).await?;
                let server = Endpoint::new(&server);
                Self::open_server(settings, &server, Some(master), limit, touched).await
            }
        }
    }

    async fn open_server(
        settings: &Settings,
        endpoint: &Endpoint,
        master: Option<&str>,
        limit: Duration,
        touched: Option<&Touched>,
    ) -> Result<Self, CallError> {
        let mut info = info().set_db(settings.db.into());
        if let Some(user) = &settings.user {
            let password = user.read_password(NAME).map_err(CallError::Settings)?;
            info = info.set_username(&user.name).set_password(password);
        }
        let opened = Self::open_one(settings, endpoint, &info, limit, touched).await;
        let name = match master {
            Some(master) => format!("{} ({master} by Sentinel)", endpoint.shown()),
            None => endpoint.shown(),
        };
        let peer = Peer {
            name,
            is_sentinel: false,
        };
        let mut link = opened.map_err(|error| CallError::of(&peer, error))?;
        link.peer = peer;
        server::check(&mut link).await?;
        Ok(link)
    }

    /// Opens a link to exactly this endpoint, whatever it is.
    pub(super) async fn open_one(
        settings: &Settings,
        endpoint: &Endpoint,
        info: &RedisConnectionInfo,
        limit: Duration,
        touched: Option<&Touched>,
    ) -> Result<Self, RedisError> {
        // Half of the limit, so that known addresses still have the other half if no name server answers.
        let stream: TcpStream = endpoint.connect(limit / 2).await?;
        match &settings.tls {
            None => Self::over(stream, info, touched).await,
            Some(tls) => {
                let stream = tls::connect(tls, endpoint.name(), stream).await?;
                Self::over(stream, info, touched).await
            }
        }
    }

    async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        stream: S,
        info: &RedisConnectionInfo,
        touched: Option<&Touched>,
    ) -> Result<Self, RedisError> {
        // Each call has a limit of its own.
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        if let Some(touched) = touched {
            config = config.set_push_sender(touched.sender());
        }
        let opened = MultiplexedConnection::new_with_config(info, stream, config).await?;
        let (connection, task) = opened;
        let task = tokio::spawn(task).abort_handle();
        Ok(Self {
            peer: Peer::default(),
            connection,
            task,
        })
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Makes a request. Several commands have several answers in an array.
    pub async fn ask(&mut self, request: &Request) -> Result<Value, RedisError> {
        let connection = &mut self.connection;
        match request {
            Request::Script(script, input) => script.call(connection, input).await,
            Request::Command(command) => command.query_async(connection).await,
            Request::Commands(commands) => commands.query_async(connection).await,
            Request::Subscribe(pattern) => {
                connection.psubscribe(pattern).await.map(|()| Value::Okay)
            }
        }
    }
}

/// Redis's newer protocol, which tells of changes on the connection that has other answers too. `CLIENT SETINFO` is left
/// out, because Redis 7.0 does not know it and an ACL may deny it.
pub(super) fn info() -> RedisConnectionInfo {
    RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name()
}
