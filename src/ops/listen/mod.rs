//! What others may ask over HTTP: whether it is alive, whether it is ready, its metrics, and a page for a person.

mod bounded;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener as _;
use axum::{Router, middleware, serve};
use tracing::{error, info};

use crate::ops::log::Recent;
use crate::register::metrics::Now;
use crate::register::page;
use crate::register::status::Status;
use bounded::Bounded;

/// How long the script's thread may take to give a sign of life. A policy call may take a second.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
/// The page shows names that others chose, so it may neither run nor load anything.
const SECURITY: [(HeaderName, &str); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// What is shown.
#[derive(Clone)]
struct Shown {
    status: Arc<Status>,
    recent: Recent,
    /// What this registrar is: one line each.
    about: Arc<[(&'static str, String)]>,
}

/// Listens on `address` and answers in the background of this runtime, for as long as the program runs. `about` is what
/// the page says of this registrar.
pub fn start(
    address: SocketAddr,
    status: Arc<Status>,
    recent: Recent,
    about: Vec<(&'static str, String)>,
) -> anyhow::Result<()> {
    let listener = Bounded::bind(address).with_context(|| {
        format!(
            "cannot listen on {address}; say --listen with an address of this host and a free port"
        )
    })?;
    let address = listener.local_addr().unwrap_or(address);
    info!("listening on http://{address}");
    let shown = Shown {
        status,
        recent,
        about: about.into(),
    };
    let routes = Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .layer(middleware::map_response(close))
        .with_state(shown);
    tokio::spawn(async move {
        if let Err(error) = serve(listener, routes).await {
            error!("no longer listening on {address}: {error}");
        }
    });
    Ok(())
}

/// Ends the connection with this answer, so that each has one request and is short.
async fn close(answer: Response) -> impl IntoResponse {
    ([(header::CONNECTION, "close")], answer)
}

async fn healthz(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.status.alive.ask_within(SIGN_OF_LIFE).await {
        Some(_) => (StatusCode::OK, "alive\n"),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the script does not let go\n",
        ),
    }
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let troubles = troubles(&shown.status).await;
    if troubles.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        let text = troubles.join("\n") + "\n";
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

/// What keeps it from being ready, of which one is that nothing new can come of a script which hangs.
async fn troubles(status: &Status) -> Vec<String> {
    let mut troubles = status.troubles();
    if status.alive.ask_within(SIGN_OF_LIFE).await.is_none() {
        troubles.push("policy: the script does not let go".to_owned());
    }
    troubles
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let status = &shown.status;
    let (containers, keys) = tokio::join!(status.containers.ask(), status.keys.ask());
    let text = status.metrics.text(&Now {
        containers: containers.as_ref().map(|containers| containers.as_slice()),
        keys: keys.as_ref().map(|keys| keys.as_slice()),
        lease_left: status.lease_left(),
        ready: troubles(status).await.is_empty(),
        counts: status.counts(),
    });
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
    }
}

async fn page(State(shown): State<Shown>) -> impl IntoResponse {
    let status = &shown.status;
    let (containers, keys) = tokio::join!(status.containers.ask(), status.keys.ask());
    let html = page::draw(&page::Page {
        about: &shown.about,
        script: &status.script.borrow().clone(),
        conditions: status
            .conditions()
            .map(|(name, condition)| (name, condition.state())),
        lease_left: status.lease_left(),
        containers: containers.as_ref().map(|containers| containers.as_slice()),
        keys: keys.as_ref().map(|keys| keys.as_slice()),
        lines: &shown.recent.lines(),
    });
    (SECURITY, Html(html))
}
