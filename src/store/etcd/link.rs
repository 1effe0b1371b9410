//! A link to one endpoint: the client, and the channel under it for calls that the client does not have.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, KvClient, LeaseClient, WatchClient};
use hyper_util::rt::TokioIo;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request};
use tonic::transport;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt as _, service_fn};

use super::settings::Settings;
use super::{NAME, tls};
use crate::store::endpoint::Endpoint;

/// The largest answer that is accepted, in bytes. Values of others are up to 1.5 MiB each.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

/// The header with a user's token. From 3.5.30, etcd wants it at renewals of leases too.
const TOKEN: &str = "token";

/// A connection for calls that the client does not have.
#[derive(Clone)]
pub struct Channel {
    pub connection: transport::Channel,
    token: Option<HeaderValue>,
}

/// It connects at its first call, and again whenever the connection was lost.
pub struct Link {
    client: Client,
    channel: Channel,
}

/// The error of a call, or of the link that it needs.
pub enum CallError {
    /// An error in our own files, so no other endpoint can help.
    Settings(anyhow::Error),
    /// An error of etcd, or of the network.
    Etcd(Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Etcd(error)
    }
}

impl Link {
    /// Opens a link, and authenticates the user.
    pub async fn open(
        settings: &Settings,
        endpoint: &Arc<Endpoint>,
        limit: Duration,
    ) -> Result<Self, CallError> {
        // A member that has lost its cluster says so instead of waiting for it.
        let options = || Some(ConnectOptions::new().with_require_leader(true));
        let connection = connection(settings, endpoint, limit)?;
        let mut token = None;
        if let Some(user) = &settings.user {
            let password = user.read_password(NAME).map_err(CallError::Settings)?;
            let under = etcd_client::Channel::Tonic(connection.clone());
            let mut anonymous = Client::from_channel(under, options()).await?.auth_client();
            let answer = anonymous.authenticate(user.name.clone(), password).await?;
            let bad = |_| Error::Internal("the token has characters that no header has".to_owned());
            token = Some(HeaderValue::from_str(answer.token()).map_err(bad)?);
        }
        let channel = Channel { connection, token };
        let client = Client::from_channel(channel.for_client(), options()).await?;
        Ok(Self { client, channel })
    }
}

/// The parts of a link, each for some calls. A copy of a part is small.
impl Link {
    pub fn kv(&self) -> KvClient {
        let client = self.client.kv_client();
        client.max_decoding_message_size(LARGEST_ANSWER)
    }

    pub fn leases(&self) -> LeaseClient {
        self.client.lease_client()
    }

    pub fn watch(&self) -> WatchClient {
        let client = self.client.watch_client();
        client.max_decoding_message_size(LARGEST_ANSWER)
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

impl Channel {
    /// Adds the user's token to a request.
    pub fn identify(&self, headers: &mut HeaderMap) {
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
    }

    fn for_client(&self) -> etcd_client::Channel {
        let channel = self.clone();
        let identified = self
            .connection
            .clone()
            .map_request(move |mut request: Request<Body>| {
                channel.identify(request.headers_mut());
                request
            });
        etcd_client::Channel::Custom(BoxCloneSyncService::new(identified.map_err(BoxError::from)))
    }
}

fn connection(
    settings: &Settings,
    endpoint: &Arc<Endpoint>,
    limit: Duration,
) -> Result<transport::Channel, CallError> {
    let scheme = settings.tls.as_ref().map_or("http", |_| "https");
    // The name, and not an address of it: the certificate has it, and proxies look at it.
    let url = format!("{scheme}://{}", endpoint.name());
    let mut builder = transport::Endpoint::from_shared(url)
        .map_err(Error::from)?
        .connect_timeout(limit)
        // etcd refuses pings that come more often than every five seconds (--grpc-keepalive-min-time).
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(limit)
        .keep_alive_while_idle(true);
    if let Some(tls) = &settings.tls {
        let options = tls::options(tls).map_err(CallError::Settings)?;
        builder = builder.tls_config(options).map_err(Error::from)?;
    }
    let endpoint = Arc::clone(endpoint);
    let connector = service_fn(move |_| {
        let endpoint = Arc::clone(&endpoint);
        // Half of the limit, so that known addresses still have the other half if no name server answers.
        async move { endpoint.connect(limit / 2).await.map(TokioIo::new) }
    });
    Ok(builder.connect_with_connector_lazy(connector))
}
