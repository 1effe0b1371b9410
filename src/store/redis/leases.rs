//! Grants, renews and ends leases.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use redis::Value;
use tracing::debug;

use super::connection::Connection;
use super::failure::{explain_caught, name_keys};
use super::link::Request;
use super::script::{CLAIM, Input, LEASES, REAP, RENEW, REVOKE};
use super::value::{list, number, text, texts};
use crate::store::{LeaseId, StoreError};

/// The number of leases in one call.
const LEASES_IN_A_CALL: usize = 256;
/// The number of keys after which a script ends, to go on in another call. Redis does nothing else meanwhile.
const KEYS_IN_A_CALL: usize = 2000;

/// Whether a renewal grants leases that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    LeaveOut,
    Grant,
}

/// A lease whose keys are not renewed yet, with the place to go on from and the deadline in ms, as the script gives them.
struct Left {
    lease: LeaseId,
    ttl: String,
    cursor: String,
    deadline: String,
}

/// This process's mark on a seat, which no other process has. The late renewal has a connection of its own, so it is one
/// for all connections.
fn nonce() -> &'static str {
    static NONCE: OnceLock<String> = OnceLock::new();
    NONCE.get_or_init(|| {
        // The keys of these hashers are random.
        let part = || RandomState::new().hash_one(std::process::id());
        format!("{:016x}{:016x}", part(), part())
    })
}

impl Connection {
    /// All leases that exist.
    pub async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        let answer = self.call(&Request::Script(&LEASES, Input::new())).await;
        let answer = name_keys(answer, || "cannot list leases".to_owned())?;
        let leases = texts(answer).ok_or_else(|| self.odd("a question about leases"))?;
        Ok(leases.iter().filter_map(|lease| parse(lease)).collect())
    }

    /// Renews leases. Returns the seconds that each lives.
    pub async fn renew(
        &mut self,
        leases: &[LeaseId],
        missing: Missing,
    ) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        let mut alive = BTreeMap::new();
        let mut failure = None;
        for some in leases.chunks(LEASES_IN_A_CALL) {
            let mut left: Vec<Left> = some.iter().copied().map(Left::new).collect();
            while !left.is_empty() {
                let answer = self.call(&renewal(&left, missing)).await;
                let answer = name_keys(answer, || "cannot renew leases".to_owned())?;
                let renewed = Renewed::parse(answer).ok_or_else(|| self.odd("a renewal"))?;
                alive.extend(renewed.done);
                left = renewed.left;
                if !renewed.failure.is_empty() {
                    failure.get_or_insert(renewed.failure);
                }
            }
        }
        if !leases.is_empty() {
            self.reap().await;
        }
        match failure {
            None => Ok(alive),
            Some(caught) => {
                let error = explain_caught(self.settings(), &self.shown(), &caught);
                name_keys(Err(error), || {
                    "cannot renew all keys on our leases".to_owned()
                })
            }
        }
    }

    /// Grants a lease for `ttl` seconds. Returns false if it exists.
    pub async fn claim(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        // Only a seat has a holder; the ids of other leases have their TTL.
        let holder = if lease.ttl() == 0 { nonce() } else { "" };
        let input = Input::new().lease(lease).arg(lease).arg(ttl).arg(holder);
        let answer = self.call(&Request::Script(&CLAIM, input)).await;
        let answer = name_keys(answer, || format!("cannot grant lease {lease}"))?;
        let is_new = number(answer).ok_or_else(|| self.odd("a grant"))?;
        Ok(is_new == 1)
    }

    /// Ends a lease and deletes the keys on it.
    pub async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        let input = Input::new().lease(lease).arg(lease).arg(KEYS_IN_A_CALL);
        let request = Request::Script(&REVOKE, input);
        loop {
            let answer = self.call(&request).await;
            let answer = name_keys(answer, || {
                format!("cannot remove the keys on lease {lease}")
            })?;
            if number(answer).ok_or_else(|| self.odd("the end of a lease"))? == 1 {
                return Ok(());
            }
        }
    }

    /// Makes Redis notice the keys of expired leases, so that it tells of them. Their readers miss them anyway.
    async fn reap(&mut self) {
        let input = Input::new().arg(KEYS_IN_A_CALL);
        if let Err(error) = self.call(&Request::Script(&REAP, input)).await {
            debug!("cannot look for expired leases: {error}");
        }
    }
}

impl Left {
    fn new(lease: LeaseId) -> Self {
        Self {
            lease,
            ttl: lease.ttl().to_string(),
            cursor: "0".to_owned(),
            deadline: String::new(),
        }
    }

    fn parse(value: Value) -> Option<Self> {
        let [lease, ttl, cursor, deadline] = <[Value; 4]>::try_from(list(value)?).ok()?;
        Some(Self {
            lease: parse(&text(lease)?)?,
            ttl: text(ttl)?,
            cursor: text(cursor)?,
            deadline: text(deadline)?,
        })
    }
}

fn parse(lease: &str) -> Option<LeaseId> {
    i64::from_str_radix(lease, 16).ok().map(LeaseId)
}

fn renewal(left: &[Left], missing: Missing) -> Request {
    let mut input = Input::new();
    input.add(if missing == Missing::Grant {
        "grant"
    } else {
        "renew"
    });
    input.add(nonce());
    input.add(KEYS_IN_A_CALL);
    for one in left {
        input.add_lease(one.lease);
        input.add(one.lease);
        for arg in [&one.ttl, &one.cursor, &one.deadline] {
            input.add(arg);
        }
    }
    Request::Script(&RENEW, input)
}

/// The answer to a renewal.
struct Renewed {
    /// The leases that live, with their TTLs in seconds.
    done: Vec<(LeaseId, u32)>,
    left: Vec<Left>,
    /// The first error, if any.
    failure: String,
}

impl Renewed {
    fn parse(answer: Value) -> Option<Self> {
        let [done, rest, failure] = <[Value; 3]>::try_from(list(answer)?).ok()?;
        let done = list(done)?.into_iter().map(|done| {
            let [lease, ttl] = <[Value; 2]>::try_from(list(done)?).ok()?;
            Some((parse(&text(lease)?)?, u32::try_from(number(ttl)?).ok()?))
        });
        let left = list(rest)?.into_iter().map(Left::parse);
        Some(Self {
            done: done.collect::<Option<_>>()?,
            left: left.collect::<Option<_>>()?,
            failure: text(failure)?,
        })
    }
}
