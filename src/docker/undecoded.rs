//! Answers of Docker as it wrote them. bollard sends the requests, with their time limit, and understands refusals, but
//! its types are too strict for the answers: one odd field in one container would blind the whole host. Its transport,
//! which is ours, takes an answer out of its hands before it is decoded.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use bytes::Bytes;
use futures_util::stream::{self, Stream, TryStreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::TokioExecutor;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

/// The longest line of a stream, in bytes.
const LONGEST_LINE: usize = 1 << 20;

/// Where the transport puts the answer to a request that has one of these among its extensions.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<Response<Incoming>>>>);

/// A connection to a daemon: each request opens one anew.
#[derive(Clone)]
pub struct Connection {
    docker: Docker,
    /// The beginning of each path, `/v1.41`; empty for the daemon's own version.
    version: Arc<str>,
}

impl Connection {
    /// A connection over `connector` to the host of `url`.
    pub fn new<C>(connector: C, url: &str, timeout: Duration) -> Result<Self, Error>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        let transport = move |request: BollardRequest| {
            let slot = request.extensions().get::<Slot>().cloned();
            let answer = client.request(request);
            async move {
                let answer = answer.await?;
                match slot {
                    // bollard makes an error of a refusal.
                    Some(slot) if answer.status().is_success() => Err(slot.put(answer)),
                    _ => Ok(answer),
                }
            }
        };
        let (seconds, newest) = (timeout.as_secs(), API_DEFAULT_VERSION);
        Ok(Self {
            docker: Docker::connect_with_custom_transport(transport, Some(url), seconds, newest)?,
            version: "".into(),
        })
    }

    /// The same connection, for requests of that version.
    pub fn with_version(self, version: &ClientVersion) -> Self {
        let version = format!("/v{version}").into();
        Self { version, ..self }
    }

    /// The headers of the answer at a path without a version.
    pub async fn head(&self, path: &str) -> Result<HeaderMap, Error> {
        Ok(self.get(path).await?.into_parts().0.headers)
    }

    /// The whole body of the answer at a path, such as `/info`.
    pub async fn whole(&self, path: &str) -> Result<Bytes, Error> {
        let answer = self.get(&format!("{}{path}", self.version)).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    /// The lines of the answer at a path, which is asked for when the first one is.
    pub fn lines(&self, path: &str) -> impl Stream<Item = Result<String, Error>> + Send + 'static {
        let connection = self.clone();
        let path = format!("{}{path}", self.version);
        let lines = async move {
            let body = connection.get(&path).await?.into_body();
            let bytes = body.into_data_stream().map_err(io::Error::other);
            let codec = LinesCodec::new_with_max_length(LONGEST_LINE);
            let lines = FramedRead::new(StreamReader::new(bytes), codec);
            Ok::<_, Error>(lines.map_err(|error| io::Error::other(error).into()))
        };
        stream::once(lines).try_flatten()
    }

    /// Makes a request, and takes its answer. It is a ping of bollard's that goes elsewhere, because each of its other
    /// calls brings the decoder of a large type.
    async fn get(&self, path: &str) -> Result<Response<Incoming>, Error> {
        let path: PathAndQuery = path.parse().map_err(io::Error::other)?;
        let slot = Slot::default();
        let marked = slot.clone();
        let modify = move |mut request: BollardRequest| {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(path.clone());
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
            request.extensions_mut().insert(marked.clone());
            request
        };
        let outcome = self
            .docker
            .clone()
            .with_request_modifier(modify)
            .ping()
            .await;
        slot.take().map_or_else(
            || {
                Err(outcome
                    .err()
                    .unwrap_or_else(|| error("no request was sent")))
            },
            Ok,
        )
    }
}

impl Slot {
    /// Takes an answer. Returns the error that ends bollard's part.
    fn put(&self, answer: Response<Incoming>) -> Error {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        error("the answer was taken")
    }

    fn take(&self) -> Option<Response<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn error(text: &str) -> Error {
    io::Error::other(text).into()
}
