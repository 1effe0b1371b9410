//! HTTP for operators: `/healthz`, `/readyz`, and the routes that a role hands in. There is no authentication, and no
//! request changes anything.

mod bounded;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener as _;
use axum::{Router, middleware, serve};
use futures_util::future::BoxFuture;
use tracing::{error, info};

use super::readiness::Readiness;
use bounded::Bounded;

/// The headers of a page. It shows names that others chose, so it may neither run nor load anything.
const PAGE: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
];
const METRICS: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];

/// A path, and the function that makes its text.
pub struct Route {
    pub path: &'static str,
    pub kind: Kind,
    pub text: Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<String>> + Send + Sync>,
}

/// The kind of a route's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTML for people.
    Page,
    /// Prometheus's text format.
    Metrics,
}

/// Listens on `address`, and answers in the background of this runtime until the program ends.
pub fn start(address: SocketAddr, readiness: Readiness, routes: Vec<Route>) -> anyhow::Result<()> {
    let listener = Bounded::bind(address).with_context(|| {
        format!(
            "cannot listen on {address}; pass --listen with an address of this host and a free port"
        )
    })?;
    let address = listener.local_addr().unwrap_or(address);
    info!("listening on http://{address}");
    let alive = readiness.clone();
    let mut paths = Router::new()
        .route("/healthz", get(async move || healthz(&alive).await))
        .route("/readyz", get(async move || readyz(&readiness).await));
    for Route { path, kind, text } in routes {
        paths = paths.route(path, get(async move || answer(kind, text().await)));
    }
    let paths = paths.layer(middleware::map_response(close));
    tokio::spawn(async move {
        if let Err(error) = serve(listener, paths).await {
            error!("no longer listening on {address}: {error}");
        }
    });
    Ok(())
}

/// Closes the connection after this answer, so that each connection has one request and is short.
async fn close(answer: Response) -> impl IntoResponse {
    ([(header::CONNECTION, "close")], answer)
}

async fn healthz(readiness: &Readiness) -> Response {
    if readiness.is_alive().await {
        (StatusCode::OK, "alive\n").into_response()
    } else {
        let text = "the script hangs\n";
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn readyz(readiness: &Readiness) -> Response {
    let mut lines = readiness.ask().await;
    let status = if lines.is_empty() {
        lines.push("ready".to_owned());
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    lines.extend(readiness.notices());
    (status, lines.join("\n") + "\n").into_response()
}

fn answer(kind: Kind, text: anyhow::Result<String>) -> Response {
    match (text, kind) {
        (Ok(text), Kind::Page) => (PAGE, text).into_response(),
        (Ok(text), Kind::Metrics) => (METRICS, text).into_response(),
        (Err(error), _) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
        }
    }
}
