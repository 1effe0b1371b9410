//! HTTP for operators: `/healthz`, `/readyz`, and the pages and metrics that the roles hand in. There is no
//! authentication, and no request changes anything.

mod bounded;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener as _;
use axum::{Router, middleware, serve};
use tracing::{error, info};

use super::log::Recent;
use super::page;
use super::process_metrics::ProcessMetrics;
use super::readiness::Roles;
use super::role::View;
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

/// Listens on `address`, and answers in the background of this runtime until the program ends. Each of several roles has
/// its page below its name.
pub fn start(
    address: SocketAddr,
    roles: Roles,
    views: Vec<View>,
    recent: Recent,
) -> anyhow::Result<()> {
    let listener = Bounded::bind(address).with_context(|| {
        format!(
            "cannot listen on {address}; pass --listen with an address of this host and a free port"
        )
    })?;
    let address = listener.local_addr().unwrap_or(address);
    info!("listening on http://{address}");
    let (alive, process) = (roles.clone(), Arc::new(ProcessMetrics::new()));
    let of_metrics: Arc<[View]> = views.clone().into();
    let mut paths = Router::new()
        .route("/healthz", get(async move || healthz(&alive).await))
        .route("/readyz", get(async move || readyz(&roles).await))
        .route(
            "/metrics",
            get(async move || answer(METRICS, metrics(&of_metrics, &process).await)),
        );
    if let [alone] = &views[..] {
        let page = Arc::clone(&alone.page);
        paths = paths.route("/", get(async move || answer(PAGE, page().await)));
    } else {
        for view in &views {
            let page = Arc::clone(&view.page);
            let path = format!("/{}", view.name);
            paths = paths.route(&path, get(async move || answer(PAGE, page().await)));
        }
        let index = move || page::index(&views, &recent);
        paths = paths.route("/", get(async move || answer(PAGE, Ok(index()))));
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

async fn healthz(roles: &Roles) -> Response {
    if roles.is_alive().await {
        (StatusCode::OK, "alive\n").into_response()
    } else {
        let text = "the script hangs\n";
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn readyz(roles: &Roles) -> Response {
    let mut lines = roles.ask().await;
    let status = if lines.is_empty() {
        lines.push("ready".to_owned());
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    lines.extend(roles.notices());
    (status, lines.join("\n") + "\n").into_response()
}

/// The metrics of all roles and of the process. Their names differ.
async fn metrics(views: &[View], process: &ProcessMetrics) -> anyhow::Result<String> {
    let mut text = String::new();
    for view in views {
        text += &(view.metrics)().await?;
    }
    Ok(text + &process.text()?)
}

fn answer<const N: usize>(
    headers: [(HeaderName, &'static str); N],
    text: anyhow::Result<String>,
) -> Response {
    match text {
        Ok(text) => (headers, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
    }
}
