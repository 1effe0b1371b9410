//! A connection to one etcd: its endpoints, the one in use, and calls. After an error the next endpoint is used.

use std::time::Duration;

use anyhow::anyhow;
use etcd_client::{Client, Error};

use super::failure::{explain, is_answer};
use super::settings::{CallError, Settings};
use crate::base::deadline::within;
use crate::base::text::quote;
use crate::store::StoreError;

/// The gRPC code of a call with an expired token, and etcd's other messages for it (`rpctypes/error.go`).
const UNAUTHENTICATED: i32 = 16;
const STALE_TOKEN: [&str; 2] = ["revision of auth store is old", "user name is empty"];

/// The endpoints of one etcd, one of which is in use. An error fails over to the next one.
pub struct Connection {
    settings: Settings,
    current: usize,
    client: Option<Client>,
    limit: Duration,
}

impl Connection {
    /// `limit` is the time limit of each call. It connects at its first call.
    pub fn new(settings: Settings, limit: Duration) -> Self {
        Self {
            settings,
            current: 0,
            client: None,
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

    pub(super) fn endpoint(&self) -> Result<String, StoreError> {
        let endpoint = self.settings.endpoints.get(self.current);
        endpoint
            .cloned()
            .ok_or_else(|| StoreError::Failed(anyhow!("no endpoint of etcd is known")))
    }

    /// Makes a call at the endpoint in use. Retries it once if etcd no longer knows the user's token: tokens expire,
    /// and some kinds end with any change of etcd's users. `part` is the part of the client that makes the call,
    /// because a copy of the whole client is large.
    pub(super) async fn call<C: Send, T, F: Future<Output = Result<T, Error>> + Send>(
        &mut self,
        part: fn(&Client) -> C,
        call: impl Fn(C) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        let endpoint = self.endpoint()?;
        let limit = self.limit;
        let mut tries = 2;
        let error = loop {
            tries -= 1;
            let is_new = self.client.is_none();
            let result = within(limit, async {
                if self.client.is_none() {
                    self.client = Some(self.settings.connect(&endpoint, limit).await?);
                }
                let Some(client) = &self.client else {
                    unreachable!("connected above");
                };
                Ok(call(part(client)).await?)
            })
            .await;
            match result {
                Some(Ok(value)) => return Ok(value),
                Some(Err(CallError::Settings(error))) => return Err(StoreError::Failed(error)),
                Some(Err(CallError::Etcd(error))) if tries > 0 && self.is_stale_token(&error) => {
                    self.client = None;
                }
                Some(Err(CallError::Etcd(error))) if is_answer(&error) => {
                    return Err(match explain(&self.settings, &endpoint, is_new, error) {
                        StoreError::Failed(error) => StoreError::Refused(error),
                        other => other,
                    });
                }
                Some(Err(CallError::Etcd(error))) => {
                    break explain(&self.settings, &endpoint, is_new, error);
                }
                None => break no_answer(&endpoint, limit),
            }
        };
        self.client = None;
        self.current = (self.current + 1) % self.settings.endpoints.len();
        Err(error)
    }

    /// Makes a call that changes nothing, at one endpoint after another until one answers.
    pub(super) async fn call_any<C: Send, T, F: Future<Output = Result<T, Error>> + Send>(
        &mut self,
        part: fn(&Client) -> C,
        call: impl Fn(C) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        let mut others = self.settings.endpoints.len().saturating_sub(1);
        loop {
            match self.call(part, &call).await {
                Err(StoreError::Failed(_)) if others > 0 => others -= 1,
                result => return result,
            }
        }
    }

    fn is_stale_token(&self, error: &Error) -> bool {
        let Error::GRpcStatus(status) = error else {
            return false;
        };
        let says = |text: &&str| status.message().contains(*text);
        let is_stale = status.code() as i32 == UNAUTHENTICATED || STALE_TOKEN.iter().any(says);
        is_stale && self.client.is_some() && self.settings.user.is_some()
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
