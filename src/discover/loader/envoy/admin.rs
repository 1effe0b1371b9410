//! Envoy's admin interface: HTTP over a Unix socket.

use std::convert::Infallible;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper_util::rt::TokioIo;
use rustix::process::Pid;
use tokio::net::UnixStream;

use crate::base::deadline::within;
use crate::base::text::quote;
use crate::discover::process::peer;

/// The longest silence of the socket.
const LIMIT: Duration = Duration::from_secs(2);

pub struct Admin {
    socket: PathBuf,
}

impl Admin {
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// The process behind the socket; none if it does not run.
    pub async fn process(&self) -> anyhow::Result<Option<Pid>> {
        peer(&self.socket, Duration::ZERO).await
    }

    /// The error while somebody else's does not run.
    pub fn missing(&self) -> anyhow::Error {
        let socket = self.quoted();
        anyhow!(
            "nobody listens on Envoy's admin socket {socket}; start Envoy, or correct `--socket`"
        )
    }

    /// The answer to a request.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = within(LIMIT, self.exchange(path)).await;
        let named = || format!("{} of Envoy's admin socket {}", quote(path), self.quoted());
        let Some(answer) = answer else {
            let seconds = LIMIT.as_secs();
            return Err(anyhow!(
                "no answer to {} within {seconds} s; if this lasts, Envoy hangs: restart it",
                named()
            ));
        };
        answer.with_context(|| format!("cannot read {}", named()))
    }

    async fn exchange(&self, path: &str) -> anyhow::Result<String> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(path)
            .header(HOST, "envoy")
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            ensure!(status.is_success(), "its status is {status}");
            anyhow::Ok(String::from_utf8_lossy(&body).into_owned())
        };
        // Its errors come to the exchange as well.
        let drive = async {
            let _ = connection.await;
            pending::<Infallible>().await
        };
        tokio::select! {
            answer = exchange => answer,
            never = drive => match never {},
        }
    }

    fn quoted(&self) -> String {
        quote(&self.socket.display().to_string())
    }
}
