//! The store of a benchmark: etcd or Redis.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::common::{Redis, SOON, TestBed, Watch, eventually};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Etcd,
    Redis,
}

/// A test bed with one of the stores.
pub struct Place {
    pub bed: TestBed,
    pub store: Store,
    /// None for etcd, which is the test bed's.
    redis: Option<OnRedis>,
}

struct OnRedis {
    server: Redis,
    /// Kept, because a new one for each call would be measured with it.
    connection: RefCell<redis::Connection>,
}

impl Place {
    pub fn new(store: Store) -> Self {
        let bed = TestBed::new();
        let redis = (store == Store::Redis).then(|| {
            // An idle etcd uses the processor as well.
            bed.etcd.stop();
            let server = Redis::start();
            let connection = server.connect().expect("Redis can be connected to");
            OnRedis {
                server,
                connection: RefCell::new(connection),
            }
        });
        Self { bed, store, redis }
    }

    /// The store's name in a table.
    pub fn name(&self) -> &'static str {
        match self.store {
            Store::Etcd => "etcd",
            Store::Redis => "Redis",
        }
    }

    /// The value of `--store`.
    pub fn uri(&self) -> String {
        match &self.redis {
            None => format!("etcd://{}", self.bed.etcd.endpoint()),
            Some(redis) => redis.server.uri(),
        }
    }

    /// The keys that begin with the prefix, and their values.
    pub fn keys(&self) -> BTreeMap<String, String> {
        match &self.redis {
            None => self.bed.etcd.get(&self.bed.prefix),
            Some(redis) => redis.server.get(&self.bed.prefix),
        }
    }

    /// The number of the keys that begin with the prefix.
    pub fn count(&self) -> usize {
        match &self.redis {
            None => self.bed.etcd.count(&self.bed.prefix),
            Some(redis) => redis.server.get(&self.bed.prefix).len(),
        }
    }

    /// Follows the keys that begin with the prefix from now on.
    pub fn watch(&self) -> Watch {
        match &self.redis {
            None => self.bed.etcd.watch(&self.bed.prefix),
            Some(redis) => redis.server.watch(&self.bed.prefix),
        }
    }

    /// A number that each write increases: of etcd by one, of Redis by the number of its keys.
    pub fn writes(&self) -> i64 {
        match &self.redis {
            None => self.bed.etcd.revision(),
            Some(redis) => redis.server.changes(),
        }
    }

    /// Puts a key that stays until it is deleted.
    pub fn put(&self, key: &str, value: &str) {
        match &self.redis {
            None => self.bed.etcd.put(key, value),
            Some(redis) => redis.call(redis::cmd("SET").arg(key).arg(value)),
        }
    }

    /// The same for several keys at once.
    pub fn put_together(&self, pairs: &[(String, String)]) {
        match &self.redis {
            None => self.bed.etcd.put_together(pairs),
            Some(redis) => {
                let mut command = redis::cmd("MSET");
                for (key, value) in pairs {
                    command.arg(key).arg(value);
                }
                redis.call(&command);
            }
        }
    }

    pub fn delete(&self, key: &str) {
        match &self.redis {
            None => self.bed.etcd.delete(key),
            Some(redis) => redis.call(redis::cmd("DEL").arg(key)),
        }
    }

    /// Removes all leases and keys of an earlier run.
    pub fn forget(&self) {
        let Some(redis) = &self.redis else {
            for lease in self.bed.etcd.leases() {
                self.bed.etcd.revoke(lease);
            }
            eventually(SOON, "an empty etcd", || self.keys().is_empty());
            return;
        };
        redis.call(&redis::cmd("FLUSHDB"));
    }
}

impl OnRedis {
    fn call(&self, command: &redis::Cmd) {
        let done = command.exec(&mut *self.connection.borrow_mut());
        done.expect("Redis does it");
    }
}
