//! A probe over HTTP/1.1: one request, whose whole answer is read.

use std::convert::Infallible;
use std::error::Error as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::tls::Connectors;
use super::{Trouble, connect, in_words};
use crate::base::text::quote;
use crate::wanted::check::{ANY_GOOD_STATUS, Http};

/// The most redirects in a row.
const MOST_REDIRECTS: usize = 5;
/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;
const PRODUCT: &str = concat!("docker-register/", env!("CARGO_PKG_VERSION"));

/// Passes if the status is a good one and the answer ends. With the default statuses, redirects to the same address are
/// followed: the first status alone would say nothing about those that end nowhere.
pub(super) async fn ask(
    http: &Http,
    place: &Place<'_>,
    stream: TcpStream,
    tls: &Connectors,
) -> Result<(), Trouble> {
    let mut path = http.path.to_string();
    let mut stream = Some(stream);
    for _ in 0..=MOST_REDIRECTS {
        let connection = match stream.take() {
            Some(stream) => stream,
            None => connect(place.addresses).await?,
        };
        let answer = match http.tls {
            None => exchange(http, place.address, &path, connection).await?,
            Some(kind) => {
                let name = http.host.as_deref().unwrap_or(place.address);
                let connection = tls.connect(kind, name, connection).await?;
                exchange(http, place.address, &path, connection).await?
            }
        };
        match answer.redirect {
            Some(next) if *http.status == ANY_GOOD_STATUS => path = next,
            _ => return judge(answer.status, &http.status),
        }
    }
    Err(Trouble::Failed(format!(
        "it redirects more than {MOST_REDIRECTS} times, the last time to {}",
        quote(&path)
    )))
}

/// Where a service is.
pub(super) struct Place<'a> {
    /// As it is written.
    pub address: &'a str,
    pub addresses: &'a [SocketAddr],
}

struct Answer {
    status: u16,
    /// The path of a redirect to the same address.
    redirect: Option<String>,
}

fn judge(status: u16, good: &[RangeInclusive<u16>]) -> Result<(), Trouble> {
    if good.iter().any(|range| range.contains(&status)) {
        Ok(())
    } else {
        Err(Trouble::Failed(format!("its status is {status}")))
    }
}

/// Sends the request, and reads the answer to its end.
async fn exchange(
    http: &Http,
    address: &str,
    path: &str,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Answer, Trouble> {
    let request = request(http, address, path)?;
    let mut client = http1::Builder::new();
    client.max_buf_size(LONGEST_HEAD);
    let (mut sender, connection) = client
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| failed(&error))?;
        let answer = Answer {
            status: response.status().as_u16(),
            redirect: redirect(&response, http, address),
        };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| failed(&error))?;
        }
        Ok(answer)
    };
    // Its errors come to the exchange as well.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = drive => match never {},
    }
}

fn request(http: &Http, address: &str, path: &str) -> Result<Request<Empty<Bytes>>, Trouble> {
    let host = http.host.as_deref().unwrap_or(address);
    let mut request = Request::builder()
        .method(&*http.method)
        .uri(path)
        .header(CONNECTION, "close")
        .header(HOST, host);
    if !http
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("user-agent"))
    {
        request = request.header(USER_AGENT, PRODUCT);
    }
    for (name, value) in &http.headers {
        request = request.header(&**name, &**value);
    }
    request
        .body(Empty::new())
        .map_err(|error| Trouble::Failed(format!("the request cannot be made: {error}")))
}

/// The path that an answer redirects to, if it is at the same address.
fn redirect<B>(response: &Response<B>, http: &Http, address: &str) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let to: Uri = location.parse().ok()?;
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    let is_here = match (to.scheme_str(), to.authority()) {
        (None, None) => location.starts_with('/'),
        (Some(to), Some(authority)) => {
            let host = http.host.as_deref().unwrap_or(address);
            to == scheme && [host, address].contains(&authority.as_str())
        }
        _ => false,
    };
    is_here.then(|| to.path_and_query().map(ToString::to_string))?
}

/// An error of hyper's in words.
fn failed(error: &hyper::Error) -> Trouble {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    Trouble::Failed(match cause {
        Some(cause) => in_words(cause),
        None if error.is_incomplete_message() || error.is_canceled() => {
            "it closes the connection before it has answered".to_owned()
        }
        None if error.is_parse_too_large() => {
            format!("the head of its answer is longer than {LONGEST_HEAD} bytes")
        }
        None if error.is_parse() => "its answer is not HTTP".to_owned(),
        None => error.to_string(),
    })
}
