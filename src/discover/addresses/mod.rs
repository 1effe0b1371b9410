//! The addresses of this host: each has one owner. Two services on one address would both get its connections at
//! random, and one address that the proxy cannot bind would stop all of its listeners for seconds.

mod holder;
mod owners;
mod probe;
mod sockets;
#[cfg(test)]
mod testing;

pub use owners::Owners;
pub use probe::Probe;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use crate::base::text::quote;
use crate::routes::{Bound, Protocol};

/// The addresses that these processes listen on, by TCP and by UDP; none if the kernel does not tell. Those of another
/// user's are seen by root alone.
pub fn listened_by(processes: &[i32]) -> Option<BTreeSet<Bound>> {
    let proc = Path::new("/proc");
    let inodes = processes
        .iter()
        .flat_map(|process| holder::inodes(&proc.join(process.to_string())));
    let inodes: BTreeSet<u64> = inodes.collect();
    let mut addresses = BTreeSet::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let open = sockets::open(protocol).ok()?.into_iter();
        let theirs = open.filter(|socket| inodes.contains(&socket.inode));
        addresses.extend(theirs.map(|socket| socket.bound));
    }
    Some(addresses)
}

/// Whether a kernel gives both addresses to different sockets only if they agree to it. A wildcard overlaps with every
/// address of its port, `[::]` with those of IPv4 too.
fn overlap(a: Bound, b: Bound) -> bool {
    let [one, other] = [a, b].map(|bound| bound.address.ip().to_canonical());
    a.protocol == b.protocol
        && a.address.port() == b.address.port()
        && (one == other || covers(one, other) || covers(other, one))
}

fn covers(wildcard: IpAddr, address: IpAddr) -> bool {
    wildcard.is_unspecified() && (wildcard.is_ipv6() || address.is_ipv4())
}

/// An address as a literal.
fn shown(bound: Bound) -> String {
    quote(&bound.address.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_addresses_of_a_process_are_told_apart_by_protocol() {
        // No other test has a socket at this address.
        let tcp = TcpListener::bind("127.0.9.1:0").expect("a listener");
        let udp = UdpSocket::bind("127.0.9.1:0").expect("a socket");
        let at = |protocol, address| Bound { protocol, address };
        let tcp = at(Protocol::Tcp, tcp.local_addr().expect("an address"));
        let udp = at(Protocol::Udp, udp.local_addr().expect("an address"));
        let us = i32::try_from(std::process::id()).expect("a process id");
        let held = listened_by(&[us]).expect("a list");
        assert!(held.contains(&tcp) && held.contains(&udp), "{held:?}");
        assert!(!held.contains(&at(Protocol::Udp, tcp.address)), "{held:?}");
        assert!(!held.contains(&at(Protocol::Tcp, udp.address)), "{held:?}");
    }

    #[test]
    fn a_wildcard_overlaps_with_the_addresses_of_its_port() {
        let overlap = |a: &str, b: &str| {
            let at = |protocol, address: &str| Bound {
                protocol,
                address: address.parse().expect("an address"),
            };
            let (tcp, other) = (at(Protocol::Tcp, a), at(Protocol::Tcp, b));
            assert_eq!(overlap(tcp, other), overlap(other, tcp), "{a} {b}");
            assert!(!overlap(tcp, at(Protocol::Udp, b)), "{a} {b}");
            overlap(tcp, other)
        };
        for (a, b) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::]:80", "0.0.0.0:80"),
        ] {
            assert!(overlap(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "127.0.0.1:81"),
            ("0.0.0.0:80", "[::1]:80"),
        ] {
            assert!(!overlap(a, b), "{a} {b}");
        }
    }
}
