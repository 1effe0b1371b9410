//! An endpoint, and connections to one of its addresses. A name with several addresses is several ways to a store,
//! because one of the members behind it may hang while the others work.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

/// The time after which the next address is tried beside one that does not answer, as browsers do (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

pub struct Endpoint {
    /// `host:port`.
    name: String,
    addresses: Mutex<Addresses>,
}

#[derive(Debug, Default)]
struct Addresses {
    /// As they were last looked up, in the system's order.
    all: Vec<SocketAddr>,
    /// Those that have failed, before or after they were connected to, since another endpoint was in use.
    failed: BTreeSet<SocketAddr>,
    in_use: Option<SocketAddr>,
}

impl Endpoint {
    /// `name` is `host:port`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            addresses: Mutex::default(),
        }
    }

    /// `host:port`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name for a message, with the address in use if there are several.
    pub fn shown(&self) -> String {
        let addresses = self.lock();
        match addresses.in_use {
            Some(address) if addresses.all.len() > 1 => format!("{} ({})", self.name, address.ip()),
            _ => self.name.clone(),
        }
    }

    /// The number of known addresses. A name that has not been looked up counts as one.
    pub fn ways(&self) -> usize {
        self.lock().all.len().max(1)
    }

    /// Connects to the first address that accepts, those that have failed last. The name is looked up each time, for at
    /// most `limit`; if that fails, the known addresses stay in force.
    pub async fn connect(&self, limit: Duration) -> io::Result<TcpStream> {
        let found = match timeout(limit, lookup_host(&self.name)).await {
            Ok(found) => found.map(Iterator::collect),
            Err(_) => Err(io::Error::other(
                "its name could not be looked up, because no name server answered in time",
            )),
        };
        let addresses = self.lock().choose(found)?;
        let first = first_of(&addresses).await?;
        let mut addresses = self.lock();
        addresses.failed.extend(first.refused);
        addresses.in_use = Some(first.address);
        first.stream.set_nodelay(true)?;
        Ok(first.stream)
    }

    /// Records that the address in use has failed. Returns whether each address has.
    pub fn fail(&self) -> bool {
        self.lock().fail()
    }

    fn lock(&self) -> MutexGuard<'_, Addresses> {
        // Nothing that holds it can leave it half-done.
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Addresses {
    /// Takes the result of a lookup, and returns the addresses in the order in which they are tried.
    fn choose(&mut self, found: io::Result<Vec<SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
        self.in_use = None;
        match found {
            Ok(found) if !found.is_empty() => self.all = found,
            _ if !self.all.is_empty() => {}
            Ok(_) => return Err(io::Error::other("its name has no address")),
            Err(error) => return Err(error),
        }
        let all = &self.all;
        self.failed.retain(|address| all.contains(address));
        let (mut order, failed): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|address| !self.failed.contains(address));
        order.extend(failed);
        Ok(order)
    }

    fn fail(&mut self) -> bool {
        // Without a connection, all of them have been tried.
        let over = self.in_use.take().is_none_or(|address| {
            // The others are no better if it was tried again after all of them.
            let again = !self.failed.insert(address);
            again || self.all.iter().all(|address| self.failed.contains(address))
        });
        if over {
            self.failed.clear();
        }
        over
    }
}

/// A connection to the first address that has accepted one.
struct First {
    address: SocketAddr,
    stream: TcpStream,
    /// The addresses that have refused one before.
    refused: Vec<SocketAddr>,
}

async fn first_of(addresses: &[SocketAddr]) -> io::Result<First> {
    let mut rest = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut refused = Vec::new();
    let mut failure = io::Error::other("its name has no address");
    loop {
        if let Some(address) = rest.next() {
            attempts.push(async move { (address, TcpStream::connect(address).await) });
        } else if attempts.is_empty() {
            return Err(failure);
        }
        let is_last = rest.len() == 0;
        tokio::select! {
            Some((address, result)) = attempts.next() => match result {
                Ok(stream) => return Ok(First { address, stream, refused }),
                Err(error) => {
                    refused.push(address);
                    failure = error;
                }
            },
            () = sleep(HEAD_START), if !is_last => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        let parse = |text: &&str| text.parse().expect("an address");
        texts.iter().map(parse).collect()
    }

    /// Looks up, connects to the first address, and returns it.
    fn use_first(state: &mut Addresses, found: &[&str]) -> String {
        let order = state.choose(Ok(addresses(found))).expect("addresses");
        state.in_use = Some(order[0]);
        order[0].to_string()
    }

    #[test]
    fn each_address_of_a_name_has_its_turn_before_the_next_endpoint() {
        let (a, b, c) = ("10.0.0.1:1", "10.0.0.2:1", "[fd00::3]:1");
        let mut state = Addresses::default();
        assert_eq!(use_first(&mut state, &[a, b, c]), a);
        assert!(!state.fail());
        // A name server may give them in another order each time.
        assert_eq!(use_first(&mut state, &[c, a, b]), c);
        assert!(!state.fail());
        assert_eq!(use_first(&mut state, &[a, b, c]), b);
        assert!(state.fail());
        assert_eq!(use_first(&mut state, &[a, b, c]), a);
    }

    #[test]
    fn an_address_that_has_failed_is_tried_again_after_the_others() {
        let mut state = Addresses::default();
        use_first(&mut state, &["10.0.0.1:1", "10.0.0.2:1"]);
        state.fail();
        let order = state.choose(Ok(addresses(&["10.0.0.1:1", "10.0.0.2:1"])));
        assert_eq!(
            order.expect("addresses"),
            addresses(&["10.0.0.2:1", "10.0.0.1:1"])
        );
        // None of them accepted.
        assert!(state.fail());
    }

    #[test]
    fn an_endpoint_ends_with_the_last_address_that_accepts() {
        let both = ["[::1]:1", "127.0.0.1:1"];
        let [refuses, hangs] = [0, 1].map(|index| addresses(&both)[index]);
        let mut state = Addresses::default();
        state.choose(Ok(addresses(&both))).expect("addresses");
        state.failed.insert(refuses);
        state.in_use = Some(hangs);
        assert!(state.fail());
        // One that hangs, is tried last again, and hangs again.
        state.choose(Ok(addresses(&both))).expect("addresses");
        state.in_use = Some(hangs);
        assert!(!state.fail());
        state.in_use = Some(hangs);
        assert!(state.fail());
    }

    #[test]
    fn a_lookup_that_fails_leaves_the_known_addresses() {
        let failure = || Err(io::Error::other("no name server"));
        let mut state = Addresses::default();
        assert_eq!(
            state.choose(failure()).expect_err("unknown").to_string(),
            "no name server"
        );
        assert!(state.choose(Ok(Vec::new())).is_err());
        use_first(&mut state, &["10.0.0.1:1"]);
        assert_eq!(
            state.choose(failure()).expect("known"),
            addresses(&["10.0.0.1:1"])
        );
        // An address that the name no longer has is forgotten.
        state.in_use = Some(addresses(&["10.0.0.1:1"])[0]);
        assert!(state.fail());
        assert_eq!(use_first(&mut state, &["10.0.0.9:1"]), "10.0.0.9:1");
    }

    #[tokio::test]
    async fn an_address_that_refuses_or_hangs_is_passed_over() {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = |listener: &TcpListener| listener.local_addr().expect("a port");
        let open = bind();
        // Nobody listens there any more.
        let closed = address(&bind());
        // A port on which nothing is accepted, and whose queue is full.
        let full = tokio::net::TcpSocket::new_v4().expect("a socket");
        full.bind(addresses(&["127.0.0.1:0"])[0]).expect("a port");
        let full = full.listen(0).expect("a queue");
        let full_at = full.local_addr().expect("a port");
        let _queued = TcpStream::connect(full_at).await.expect("room for one");
        let first = first_of(&[closed, full_at, address(&open)]).await;
        let first = first.expect("one accepts");
        assert_eq!(
            (first.address, first.refused),
            (address(&open), vec![closed])
        );
        assert!(first_of(&[closed]).await.is_err());
        assert!(first_of(&[]).await.is_err());
    }
}
