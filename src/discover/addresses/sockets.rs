//! The sockets of this host's network namespace, as the kernel lists them in `/proc/net`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::routes::{Bound, Protocol};

/// The state of a TCP socket that listens, and that of any UDP socket without a peer (`include/net/tcp_states.h`).
const LISTEN: u8 = 0x0a;
const UNCONNECTED: u8 = 0x07;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    pub bound: Bound,
    /// Whether it waits for anybody, and is not one end of a connection.
    pub is_open: bool,
    /// The user of the program that made it.
    pub uid: u32,
    /// Its id, which no other open socket has.
    pub inode: u64,
}

/// All sockets of a protocol, below `proc`. None where the kernel does not list them.
pub fn read(proc: &Path, protocol: Protocol) -> Vec<Socket> {
    let (files, open) = match protocol {
        Protocol::Tcp => (["tcp", "tcp6"], LISTEN),
        Protocol::Udp => (["udp", "udp6"], UNCONNECTED),
        Protocol::Sctp => return Vec::new(),
    };
    let read = |file| fs::read_to_string(proc.join("net").join(file)).unwrap_or_default();
    let texts = files.map(read);
    let lines = texts.iter().flat_map(|text| text.lines());
    lines
        .filter_map(|line| parse(line, protocol, open))
        .collect()
}

/// A line of `/proc/net/tcp` (`Documentation/networking/proc_net_tcp.rst`); the head of the table is none.
fn parse(line: &str, protocol: Protocol, open: u8) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let inode = fields.get(9)?.parse().ok()?;
    // A closed connection in its TIME_WAIT belongs to nobody.
    (inode != 0).then_some(())?;
    Some(Socket {
        bound: Bound {
            protocol,
            address: parse_address(fields[1])?,
        },
        is_open: u8::from_str_radix(fields[3], 16).ok()? == open,
        uid: fields[7].parse().ok()?,
        inode,
    })
}

/// `0100007F:1F90` is 127.0.0.1:8080: the words of the address are in the machine's byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
        IpAddr::from(Ipv4Addr::from(bytes))
    } else {
        IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?))
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::super::testing::comes_true;
    use super::*;

    fn of(address: SocketAddr, protocol: Protocol) -> Vec<bool> {
        let sockets = read(Path::new("/proc"), protocol).into_iter();
        let mut found: Vec<bool> = sockets
            .filter(|socket| socket.bound == Bound { protocol, address } && socket.inode > 0)
            .map(|socket| socket.is_open)
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn the_kernel_lists_our_sockets() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue; // a host without IPv6
            };
            let at = listener.local_addr().expect("an address");
            assert_eq!(of(at, Protocol::Tcp), [true], "{at}");
            if !at.ip().is_unspecified() {
                let _peer = TcpStream::connect(at).expect("a connection");
                let _accepted = listener.accept().expect("a connection");
                assert_eq!(of(at, Protocol::Tcp), [false, true], "{at}");
            }
            drop(listener);
            let is_closed = || !of(at, Protocol::Tcp).contains(&true);
            assert!(comes_true(is_closed), "{at}");
        }
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let at = socket.local_addr().expect("an address");
        assert_eq!(of(at, Protocol::Udp), [true]);
    }
}
