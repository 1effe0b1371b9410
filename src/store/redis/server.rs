//! Checks that a server is fit: its version, its role, and the settings under which keys get lost.

use std::collections::BTreeMap;
use std::sync::Once;

use anyhow::anyhow;
use redis::{cmd, from_redis_value};
use tracing::{debug, warn};

use super::failure::CallError;
use super::link::{Link, Request};
use crate::base::text::quote;

/// The oldest version that works: it has `SET … PXAT` (Redis's `SET` command, history).
const OLDEST: (u32, u32) = (6, 2);

/// Each process warns once, because every connection would say the same.
static WARNED: Once = Once::new();

/// Checks a server that has just been connected to.
pub async fn check(link: &mut Link) -> Result<(), CallError> {
    let peer = link.peer().clone();
    let info = match link.ask(&Request::Command(cmd("INFO"))).await {
        Ok(info) => info,
        // The user may have no right to it, and needs none.
        Err(error) if error.code() == Some("NOPERM") => {
            debug!(
                "Redis at {} does not tell of itself: {error}",
                quote(&peer.name)
            );
            return Ok(());
        }
        Err(error) => return Err(CallError::of(&peer, error)),
    };
    let info: String =
        from_redis_value(info).map_err(|error| CallError::of(&peer, error.into()))?;
    let facts = Facts::of(&info);
    facts.refuse(&quote(&peer.name))?;
    if !WARNED.is_completed() {
        let mut get = cmd("CONFIG");
        get.arg("GET").arg("save");
        // Where `CONFIG` is denied, the snapshots are somebody else's business.
        let save = link.ask(&Request::Command(get)).await.ok();
        let save = save.and_then(|save| from_redis_value::<BTreeMap<String, String>>(save).ok());
        let warnings = facts.warnings(save.as_ref().and_then(|save| save.get("save")));
        WARNED.call_once(|| {
            for warning in warnings {
                warn!("Redis at {} {warning}", quote(&peer.name));
            }
        });
    }
    Ok(())
}

/// The fields of `INFO`.
struct Facts<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Facts<'a> {
    fn of(info: &'a str) -> Self {
        Self(
            info.lines()
                .filter_map(|line| line.split_once(':'))
                .collect(),
        )
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name) == Some(&value)
    }

    /// An error if the server cannot be used, or cannot be used now.
    fn refuse(&self, at: &str) -> Result<(), CallError> {
        let version = self.0.get("redis_version").copied().unwrap_or_default();
        if parse_version(version).is_some_and(|version| version < OLDEST) {
            return Err(CallError::Unfit(anyhow!(
                "Redis at {at} has the version {version}, and docker-register needs 6.2 or newer"
            )));
        }
        if self.is("cluster_enabled", "1") {
            return Err(CallError::Unfit(anyhow!(
                "Redis at {at} is part of a cluster, which spreads keys over its nodes so that no transaction can have \
                 several of them: use a Redis without `cluster-enabled`, with Sentinel if it must fail over"
            )));
        }
        if self.is("role", "slave") {
            return Err(CallError::Away(anyhow!(
                "Redis at {at} is a replica, which takes no writes"
            )));
        }
        if self.is("loading", "1") {
            return Err(CallError::Away(anyhow!(
                "Redis at {at} is still loading its data"
            )));
        }
        Ok(())
    }

    /// The warnings, which go on after the server's name. `save` is its setting, if it is known.
    fn warnings(&self, save: Option<&String>) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.0.get("maxmemory_policy") {
            Some(&policy) if policy != "noeviction" => warnings.push(format!(
                "removes keys when its memory is full, those with a TTL among the first: set `maxmemory-policy noeviction` \
                 (it is {})",
                quote(policy)
            )),
            _ => {}
        }
        if self.is("aof_enabled", "0") && save.is_some_and(String::is_empty) {
            warnings.push(
                "keeps nothing on disk, so all keys are missing after its restart until they are put again: set \
                 `appendonly yes`"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The first two numbers of a version.
fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nloading:0\r\naof_enabled:0\r\n\
                       maxmemory_policy:noeviction\r\nrole:master\r\ncluster_enabled:0\r\n";

    fn refusal(info: &str) -> String {
        match Facts::of(info).refuse("`r:6379`") {
            Ok(()) => String::new(),
            Err(CallError::Unfit(error) | CallError::Away(error)) => error.to_string(),
            Err(_) => unreachable!("nobody was asked"),
        }
    }

    #[test]
    fn a_server_that_cannot_be_used_is_refused_in_words() {
        assert_eq!(refusal(FIT), "");
        for (from, to, words) in [
            ("7.0.15", "6.0.16", "6.2 or newer"),
            (
                "cluster_enabled:0",
                "cluster_enabled:1",
                "part of a cluster",
            ),
            ("role:master", "role:slave", "is a replica"),
            ("loading:0", "loading:1", "still loading"),
        ] {
            let refusal = refusal(&FIT.replace(from, to));
            assert!(refusal.contains(words), "{refusal}");
        }
        assert_eq!(refusal("redis_version:255.255.255"), "");
        assert_eq!(refusal(""), "");
    }

    #[test]
    fn settings_that_lose_keys_are_warned_of() {
        let warnings =
            |info: &str, save: &str| Facts::of(info).warnings(Some(&save.to_owned())).concat();
        assert_eq!(warnings(FIT, "3600 1"), "");
        assert!(warnings(FIT, "").contains("nothing on disk"));
        assert_eq!(
            warnings(&FIT.replace("aof_enabled:0", "aof_enabled:1"), ""),
            ""
        );
        let evicts = FIT.replace("noeviction", "volatile-lru");
        assert!(warnings(&evicts, "3600 1").contains("(it is `volatile-lru`)"));
        assert!(Facts::of(FIT).warnings(None).is_empty());
    }
}
