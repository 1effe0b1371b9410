//! The sockets of this host's network namespace, by `sock_diag(7)`. `/proc/net/tcp` has the connections in `TIME_WAIT` too,
//! and the time to read it grows with the square of their number: half a minute for 80,000.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_CLOSE, TCP_LISTEN,
};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::routes::{Bound, Protocol};

/// Messages begin at multiples of it (`NLMSG_ALIGNTO`).
const ALIGNMENT: usize = 4;

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

/// The sockets of a protocol. An error if the kernel does not list them.
pub fn all(protocol: Protocol) -> io::Result<Vec<Socket>> {
    // A closed connection in its `TIME_WAIT` belongs to nobody.
    list(protocol, &(StateFlags::all() - StateFlags::TIME_WAIT))
}

/// The sockets of a protocol that wait for anybody. An error if the kernel does not list them.
pub fn open(protocol: Protocol) -> io::Result<Vec<Socket>> {
    list(protocol, &(StateFlags::LISTEN | StateFlags::CLOSE))
}

fn list(protocol: Protocol, states: &StateFlags) -> io::Result<Vec<Socket>> {
    let number = match protocol {
        Protocol::Tcp => IPPROTO_TCP,
        Protocol::Udp => IPPROTO_UDP,
        Protocol::Sctp => return Ok(Vec::new()),
    };
    let mut sockets = Vec::new();
    for (family, socket_id) in [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ] {
        let found = ask(InetRequest {
            family,
            protocol: number,
            extensions: ExtensionFlags::empty(),
            states: states.clone(),
            socket_id,
        })?;
        sockets.extend(found.into_iter().map(|found| Socket {
            bound: Bound {
                protocol,
                address: (found.socket_id.source_address, found.socket_id.source_port).into(),
            },
            // A UDP socket without a peer is in the state CLOSE.
            is_open: [TCP_LISTEN, TCP_CLOSE].contains(&found.state),
            uid: found.uid,
            inode: found.inode.into(),
        }));
    }
    Ok(sockets)
}

fn ask(request: InetRequest) -> io::Result<Vec<InetResponseHeader>> {
    let socket = netlink_sys::Socket::new(NETLINK_SOCK_DIAG)?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut found = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest);
            let message = message.map_err(|error| io::Error::other(error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                    found.push(socket.header);
                }
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Overrun(_) => return Err(io::Error::other("the list is too long")),
                _ => {}
            }
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            // A message without a length would never end.
            let length = length.max(1).checked_next_multiple_of(ALIGNMENT);
            rest = length
                .and_then(|length| rest.get(length..))
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

    use super::super::testing::comes_true;
    use super::*;

    fn of(address: SocketAddr, protocol: Protocol) -> Vec<bool> {
        let is_at = |socket: &Socket| {
            // A socket that has just been closed has the inode 0.
            socket.bound == Bound { protocol, address } && socket.inode > 0
        };
        let all = all(protocol).expect("a list").into_iter();
        let mut found: Vec<bool> = all.filter(is_at).map(|socket| socket.is_open).collect();
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

    #[test]
    fn a_closed_connection_is_in_no_list() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let at = listener.local_addr().expect("an address");
        let at_tcp = Bound {
            protocol: Protocol::Tcp,
            address: at,
        };
        let ends = || {
            let all = all(Protocol::Tcp).expect("a list").into_iter();
            all.filter(|socket| socket.bound == at_tcp && !socket.is_open)
                .count()
        };
        let client = TcpStream::connect(at).expect("a connection");
        let (server, _) = listener.accept().expect("a connection");
        assert_eq!(ends(), 1);
        // The end that closes first is in `TIME_WAIT` for a minute.
        drop(server);
        drop(client);
        assert!(comes_true(|| ends() == 0));
    }
}
