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
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::base::text::quote;
use crate::routes::Protocol;

/// The TCP addresses that these processes listen on. Those of another user's are seen by root alone.
pub fn listened_by(processes: &[i32]) -> BTreeSet<SocketAddr> {
    let proc = Path::new("/proc");
    let inodes = processes
        .iter()
        .flat_map(|process| holder::inodes(&proc.join(process.to_string())));
    let inodes: BTreeSet<u64> = inodes.collect();
    let sockets = sockets::read(proc, Protocol::Tcp).into_iter();
    let sockets = sockets.filter(|socket| inodes.contains(&socket.inode));
    sockets.map(|socket| socket.address).collect()
}

/// Whether a kernel gives both addresses to different sockets only if they agree to it. A wildcard overlaps with every
/// address of its port, `[::]` with those of IPv4 too.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() == b.port() && (one == other || covers(one, other) || covers(other, one))
}

fn covers(wildcard: IpAddr, address: IpAddr) -> bool {
    wildcard.is_unspecified() && (wildcard.is_ipv6() || address.is_ipv4())
}

/// An address as a literal.
fn shown(address: SocketAddr) -> String {
    quote(&address.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_wildcard_overlaps_with_the_addresses_of_its_port() {
        let overlap = |a: &str, b: &str| {
            let (a, b) = (
                a.parse().expect("an address"),
                b.parse().expect("an address"),
            );
            assert_eq!(super::overlap(a, b), super::overlap(b, a), "{a} {b}");
            super::overlap(a, b)
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
