//! Answers of Docker as it wrote them. bollard makes the requests and understands refusals, but its types are too strict
//! for the answers: one odd field in one container would blind the whole host. Its transport, which is ours, takes an
//! answer out of its hands before it is decoded.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{BollardRequest, ClientVersion, Docker};
use bytes::Bytes;
use futures_util::stream::{self, Stream, TryStreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{HeaderMap, Response};
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

/// The whole body of the answer to a call.
pub async fn whole<F, T>(docker: &Docker, call: impl FnOnce(Docker) -> F) -> Result<Bytes, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    Ok(answer(docker, call)
        .await?
        .into_body()
        .collect()
        .await?
        .to_bytes())
}

/// The headers of the answer to a call.
pub async fn head<F, T>(
    docker: &Docker,
    call: impl FnOnce(Docker) -> F,
) -> Result<HeaderMap, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    Ok(answer(docker, call).await?.into_parts().0.headers)
}

/// The lines of the answer to a call, which is made when the first one is asked for.
pub fn lines<F, T>(
    docker: &Docker,
    call: impl FnOnce(Docker) -> F + Send + 'static,
) -> impl Stream<Item = Result<String, Error>> + Send + 'static
where
    F: Future<Output = Result<T, Error>> + Send,
    T: 'static,
{
    let docker = docker.clone();
    let lines = async move {
        let body = answer(&docker, call).await?.into_body();
        let bytes = body.into_data_stream().map_err(io::Error::other);
        let codec = LinesCodec::new_with_max_length(LONGEST_LINE);
        let lines = FramedRead::new(StreamReader::new(bytes), codec);
        Ok::<_, Error>(lines.map_err(|error| io::Error::other(error).into()))
    };
    stream::once(lines).try_flatten()
}

/// A client whose requests go to the host of `url` over `connector`.
pub fn client<C>(
    connector: C,
    url: &str,
    timeout: Duration,
    version: &ClientVersion,
) -> Result<Docker, Error>
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
    let seconds = timeout.as_secs();
    Docker::connect_with_custom_transport(transport, Some(url), seconds, version)
}

/// Makes a call, and takes its answer.
async fn answer<F, T>(
    docker: &Docker,
    call: impl FnOnce(Docker) -> F,
) -> Result<Response<Incoming>, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let slot = Slot::default();
    let marked = slot.clone();
    let docker = docker
        .clone()
        .with_request_modifier(move |mut request: BollardRequest| {
            request.extensions_mut().insert(marked.clone());
            request
        });
    let outcome = call(docker).await;
    slot.take().map_or_else(
        || {
            Err(outcome
                .err()
                .unwrap_or_else(|| error("the call has sent no request")))
        },
        Ok,
    )
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
