//! A connection to one etcd: its endpoints, the one in use, and calls. After an error the next address of the endpoint
//! is used, then the next endpoint.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use etcd_client::Error;
use tokio::time::Instant;

use super::failure::{explain, is_answer};
use super::link::{CallError, Link};
use super::settings::Settings;
use crate::base::deadline::within;
use crate::base::text::quote;
use crate::store::StoreError;
use crate::store::endpoint::Endpoint;
use crate::store::ways::mention;

/// The gRPC code of a call with an expired token, and etcd's other messages for it (`rpctypes/error.go`).
const UNAUTHENTICATED: i32 = 16;
const STALE_TOKEN: [&str; 2] = ["revision of auth store is old", "user name is empty"];

/// The endpoints of one etcd, one of which is in use. An error fails over to the next way.
pub struct Connection {
    settings: Settings,
    endpoints: Vec<Arc<Endpoint>>,
    current: usize,
    link: Option<Link>,
    limit: Duration,
}

impl Connection {
    /// `limit` is the time limit of each call. It connects at its first call.
    pub fn new(settings: Settings, limit: Duration) -> Self {
        let endpoints = settings.endpoints.iter();
        Self {
            endpoints: endpoints
                .map(|name| Arc::new(Endpoint::new(name)))
                .collect(),
            settings,
            current: 0,
            link: None,
            limit,
        }
    }

    /// Sets the time limit of each call.
    pub fn limit_calls(&mut self, limit: Duration) {
        self.limit = limit;
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The number of known ways to etcd. As many calls in a row that fail have tried all of them.
    pub(super) fn ways(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.ways()).sum()
    }

    pub(super) fn endpoint(&self) -> Result<Arc<Endpoint>, StoreError> {
        let endpoint = self.endpoints.get(self.current);
        endpoint
            .cloned()
            .ok_or_else(|| StoreError::Failed(anyhow!("no endpoint of etcd is known")))
    }

    /// Makes a call at the endpoint in use. Retries it once if etcd no longer knows the user's token: tokens expire,
    /// and some kinds end with any change of etcd's users. `part` is the part of the link that makes the call.
    pub(super) async fn call<C: Send, T, F: Future<Output = Result<T, Error>> + Send>(
        &mut self,
        part: fn(&Link) -> C,
        call: impl Fn(C) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        let endpoint = self.endpoint()?;
        let limit = self.limit;
        let mut tries = 2;
        let error = loop {
            tries -= 1;
            let is_new = self.link.is_none();
            let begun = Instant::now();
            let result = within(limit, async {
                if self.link.is_none() {
                    self.link = Some(Link::open(&self.settings, &endpoint, limit).await?);
                }
                let Some(link) = &self.link else {
                    unreachable!("connected above");
                };
                Ok(call(part(link)).await?)
            })
            .await;
            self.settings
                .calls
                .tell(begun, !matches!(result, Some(Ok(_))));
            match result {
                Some(Ok(value)) => return Ok(value),
                Some(Err(CallError::Settings(error))) => return Err(StoreError::Failed(error)),
                Some(Err(CallError::Etcd(error))) if tries > 0 && self.is_stale_token(&error) => {
                    self.link = None;
                }
                Some(Err(CallError::Etcd(error))) if is_answer(&error) => {
                    let at = endpoint.shown();
                    return Err(match explain(&self.settings, &at, is_new, error) {
                        StoreError::Failed(error) => StoreError::Refused(error),
                        other => other,
                    });
                }
                Some(Err(CallError::Etcd(error))) => {
                    break explain(&self.settings, &endpoint.shown(), is_new, error);
                }
                None => break no_answer(&endpoint.shown(), limit),
            }
        };
        self.link = None;
        if endpoint.fail() {
            self.current = (self.current + 1) % self.endpoints.len();
        }
        Err(error)
    }

    /// Makes a call that changes nothing, over one way after another until etcd answers.
    pub(super) async fn call_any<C: Send, T, F: Future<Output = Result<T, Error>> + Send>(
        &mut self,
        part: fn(&Link) -> C,
        call: impl Fn(C) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        let mut failures = Vec::new();
        loop {
            match self.call(part, &call).await {
                Err(StoreError::Failed(error)) if failures.len() + 1 < self.ways() => {
                    failures.push(error);
                }
                Err(StoreError::Failed(error)) => return Err(StoreError::Failed(error)),
                result => {
                    mention(&failures);
                    return result;
                }
            }
        }
    }

    fn is_stale_token(&self, error: &Error) -> bool {
        let Error::GRpcStatus(status) = error else {
            return false;
        };
        let says = |text: &&str| status.message().contains(*text);
        let is_stale = status.code() as i32 == UNAUTHENTICATED || STALE_TOKEN.iter().any(says);
        is_stale && self.link.is_some() && self.settings.user.is_some()
    }
}

/// The error of a call that took longer than its limit.
pub(super) fn no_answer(endpoint: &str, limit: Duration) -> StoreError {
    StoreError::Failed(anyhow!(
        "etcd at {} did not answer within {:.1} seconds",
        quote(endpoint),
        limit.as_secs_f64()
    ))
}
