//! The Lua scripts that Redis runs. Each is sent once and then called by its digest, which Redis tells.

use std::sync::OnceLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value, cmd};

use crate::base::key::Key;
use crate::store::LeaseId;

/// The records that every script may use, in the order of `scripts/common.lua`.
const RECORDS: [&str; 6] = [
    "docker-register:leases",
    "docker-register:grants",
    "docker-register:owners",
    "docker-register:index",
    REVISION,
    "docker-register:revisions",
];
/// The record with the number of transactions that have changed something.
pub const REVISION: &str = "docker-register:revision";
/// The record with all our keys, in the order of their bytes.
pub const INDEX: &str = "docker-register:index";
/// The beginning of all records.
pub const NAMESPACE: &str = "docker-register:";

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub static $name: Script = Script {
            text: concat!(include_str!("scripts/common.lua"), include_str!($file)),
            digest: OnceLock::new(),
        };)*
    };
}

scripts! {
    CLAIM = "scripts/claim.lua";
    LEASES = "scripts/leases.lua";
    LOOKUP = "scripts/lookup.lua";
    READ = "scripts/read.lua";
    REAP = "scripts/reap.lua";
    RENEW = "scripts/renew.lua";
    REVOKE = "scripts/revoke.lua";
    TRANSACT = "scripts/transact.lua";
}

pub struct Script {
    text: &'static str,
    /// The SHA-1 digest, which is the same on every server.
    digest: OnceLock<String>,
}

/// The keys and the arguments of a call.
#[derive(Debug, Clone)]
pub struct Input {
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Script {
    pub async fn call(
        &self,
        connection: &mut MultiplexedConnection,
        input: &Input,
    ) -> RedisResult<Value> {
        let digest = match self.digest.get() {
            Some(digest) => digest.as_str(),
            None => self.load(connection).await?,
        };
        let call = input.call(digest);
        match call.query_async(connection).await {
            // Redis has been restarted, or its scripts have been flushed.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                self.load(connection).await?;
                call.query_async(connection).await
            }
            answer => answer,
        }
    }

    async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<&str> {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.text);
        let digest: String = load.query_async(connection).await?;
        Ok(self.digest.get_or_init(|| digest))
    }
}

impl Input {
    /// No key, and no argument.
    pub fn new() -> Self {
        Self {
            keys: RECORDS.map(str::to_owned).to_vec(),
            args: Vec::new(),
        }
    }

    /// Adds the record of a lease.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.add_lease(lease);
        self
    }

    pub fn add_lease(&mut self, lease: LeaseId) {
        self.keys.push(format!("{NAMESPACE}lease:{lease}"));
    }

    /// Adds a key. Returns its place, as Lua counts.
    pub fn add_key(&mut self, key: &Key) -> usize {
        self.keys.push(key.to_string());
        self.keys.len()
    }

    pub fn arg(mut self, arg: impl ToString) -> Self {
        self.add(arg);
        self
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "these are numbers and borrowed text"
    )]
    pub fn add(&mut self, arg: impl ToString) {
        self.args.push(arg.to_string().into_bytes());
    }

    pub fn add_bytes(&mut self, arg: Vec<u8>) {
        self.args.push(arg);
    }

    fn call(&self, digest: &str) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(digest).arg(self.keys.len());
        call.arg(&self.keys).arg(&self.args);
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_script_looks_through_the_whole_store() {
        for script in [
            &CLAIM, &LEASES, &LOOKUP, &READ, &REAP, &RENEW, &REVOKE, &TRANSACT,
        ] {
            for command in ["'SCAN'", "'KEYS'"] {
                assert!(!script.text.contains(command), "{}", script.text);
            }
        }
    }

    #[test]
    fn the_records_and_the_keys_come_first() {
        let mut input = Input::new().lease(LeaseId(0x1f)).arg("a").arg(2);
        assert_eq!(input.add_key(&"/b/1".into()), 8);
        let packed = input.call("digest").get_packed_command();
        let packed = String::from_utf8_lossy(&packed);
        let words: Vec<&str> = packed
            .split("\r\n")
            .filter(|word| !word.starts_with(['$', '*']))
            .collect();
        let wanted = ["EVALSHA", "digest", "8"];
        assert_eq!(words[..3], wanted);
        assert_eq!(words[9..13], ["docker-register:lease:1f", "/b/1", "a", "2"]);
    }
}
