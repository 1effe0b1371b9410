//! A connection to one Redis: its endpoints, the one in use, and calls. After an error the next address of the endpoint
//! is used, then the next endpoint. A sentinel is asked anew each time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use redis::Value;
use tokio::time::Instant;

use super::failure::{CallError, explain};
use super::link::{Link, Request};
use super::settings::Settings;
use super::touched::Touched;
use crate::base::deadline::within;
use crate::base::text::quote;
use crate::store::StoreError;
use crate::store::endpoint::Endpoint;
use crate::store::ways::mention;

pub struct Connection {
    settings: Settings,
    endpoints: Vec<Arc<Endpoint>>,
    current: usize,
    link: Option<Link>,
    limit: Duration,
    /// Is told of the changes that Redis tells of.
    touched: Option<Touched>,
}

impl Connection {
    /// `limit` is the time limit of each call. It connects at its first call.
    pub fn new(settings: Settings, limit: Duration, touched: Option<Touched>) -> Self {
        let endpoints = settings.place.endpoints().iter();
        Self {
            endpoints: endpoints
                .map(|name| Arc::new(Endpoint::new(name)))
                .collect(),
            settings,
            current: 0,
            link: None,
            limit,
            touched,
        }
    }

    /// Sets the time limit of each call.
    pub fn limit_calls(&mut self, limit: Duration) {
        self.limit = limit;
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The number of known ways to Redis. As many calls in a row that fail have tried all of them.
    pub fn ways(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.ways()).sum()
    }

    /// The server in use, or the endpoint that leads to it, for messages.
    pub fn shown(&self) -> String {
        let endpoint = self.endpoints.get(self.current);
        match (&self.link, endpoint) {
            (Some(link), _) => link.peer().name.clone(),
            (None, Some(endpoint)) => endpoint.shown(),
            (None, None) => String::new(),
        }
    }

    /// Makes a request that changes nothing, over one way after another until Redis answers. Once a watch is connected,
    /// this is its only way: on another one it would be told of nothing.
    pub async fn call_any(&mut self, request: &Request) -> Result<Value, StoreError> {
        let is_watching = self.touched.is_some() && self.link.is_some();
        let mut failures = Vec::new();
        loop {
            match self.call(request).await {
                Err(StoreError::Failed(error))
                    if !is_watching && failures.len() + 1 < self.ways() =>
                {
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

    /// Makes a request at the endpoint in use.
    pub async fn call(&mut self, request: &Request) -> Result<Value, StoreError> {
        let Some(endpoint) = self.endpoints.get(self.current).cloned() else {
            return Err(StoreError::Failed(anyhow!("no server of Redis is known")));
        };
        let is_new = self.link.is_none();
        let begun = Instant::now();
        let result = within(self.limit, async {
            if self.link.is_none() {
                let opened =
                    Link::open(&self.settings, &endpoint, self.limit, self.touched.as_ref());
                self.link = Some(opened.await?);
            }
            let Some(link) = &mut self.link else {
                unreachable!("connected above");
            };
            let answer = link.ask(request).await;
            answer.map_err(|error| CallError::of(link.peer(), error))
        })
        .await;
        self.settings
            .calls
            .tell(begun, !matches!(result, Some(Ok(_))));
        let error = match result {
            Some(Ok(value)) => return Ok(value),
            Some(Err(CallError::Settings(error))) => return Err(StoreError::Failed(error)),
            Some(Err(error)) => match explain(&self.settings, is_new, error) {
                // Redis itself has answered, and another server would give the same answer.
                error @ StoreError::Refused(_) => return Err(error),
                error => error,
            },
            None => self.no_answer(is_new),
        };
        self.link = None;
        if endpoint.fail() {
            self.current = (self.current + 1) % self.endpoints.len();
        }
        Err(error)
    }

    /// The error of a call that took longer than its limit. A server without TLS waits for more of the first message.
    fn no_answer(&self, is_new: bool) -> StoreError {
        let what_now = match self.settings.tls {
            Some(_) if is_new => "; if it does not speak TLS, write redis:// before it",
            _ => "",
        };
        StoreError::Failed(anyhow!(
            "Redis at {} did not answer within {:.1} seconds{what_now}",
            quote(&self.shown()),
            self.limit.as_secs_f64()
        ))
    }
}
