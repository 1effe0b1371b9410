//! Tries whether an address can be listened on, by doing so for an instant. The check of a configuration does not: it
//! is only at the reload that `haproxy` fails, and then it stops all of its listeners for two seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::sockets::{self, Socket};
use super::{holder, overlap, shown};
use crate::routes::{Bound, Protocol};

/// The first port that needs no privilege, where the kernel does not say.
const UNPRIVILEGED: u16 = 1024;
/// The time after which the holder of a refused address is searched for again.
const KEPT: Duration = Duration::from_secs(10);
const WHAT_NOW: &str = "stop it, or give the service another port or address";

#[derive(Debug)]
pub struct Probe {
    proc: PathBuf,
    /// The proxy's protocols. Addresses of others are not tried.
    protocols: &'static [Protocol],
    /// The kernel's lists, each read once at most for all addresses of one settlement.
    sockets: BTreeMap<Protocol, Vec<Socket>>,
    processes: Option<BTreeMap<u64, PathBuf>>,
    /// The refused addresses. They are tried at each settlement, and the search for a holder is slow.
    refused: BTreeMap<Bound, Refusal>,
}

#[derive(Debug)]
struct Refusal {
    why: String,
    /// The time of the search.
    at: Instant,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            protocols: &[Protocol::Tcp, Protocol::Udp],
            sockets: BTreeMap::new(),
            processes: None,
            refused: BTreeMap::new(),
        }
    }
}

impl Probe {
    pub fn new(protocols: &'static [Protocol]) -> Self {
        Self {
            protocols,
            ..Self::default()
        }
    }

    /// Forgets the lists of the last settlement, and what has become old.
    pub(super) fn begin(&mut self) {
        self.sockets.clear();
        self.processes = None;
        self.refused
            .retain(|_, refusal| refusal.at.elapsed() < KEPT);
    }

    /// Whether the proxy could listen on an address; an error tells an operator why not. The proxy is not in its own
    /// way.
    pub(super) fn check(
        &mut self,
        bound: Bound,
        held_by_proxy: &BTreeSet<Bound>,
    ) -> Result<(), String> {
        if !self.protocols.contains(&bound.protocol) {
            return Ok(());
        }
        let Err(error) = listen(bound) else {
            self.refused.remove(&bound);
            return Ok(());
        };
        // Where the proxy may be the holder, only the search tells.
        let is_proxys = held_by_proxy.iter().any(|held| overlap(*held, bound));
        if let Some(refusal) = self.refused.get(&bound)
            && !is_proxys
        {
            return Err(refusal.why.clone());
        }
        let why = match self.why(bound, held_by_proxy, &error) {
            None if is_proxys => return Ok(()),
            why => why.unwrap_or_else(|| {
                let at = shown(bound);
                format!("{at} is held by another program: {WHAT_NOW}")
            }),
        };
        let at = Instant::now();
        let refusal = Refusal {
            why: why.clone(),
            at,
        };
        self.refused.insert(bound, refusal);
        Err(why)
    }

    /// The reason for an error; none if nobody is seen who holds the address.
    fn why(
        &mut self,
        bound: Bound,
        held_by_proxy: &BTreeSet<Bound>,
        error: &io::Error,
    ) -> Option<String> {
        let at = shown(bound);
        if matches!(
            error.kind(),
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied
        ) && let Some(holder) = self.holder(bound, held_by_proxy)
        {
            return Some(format!("{at} is held by {holder}: {WHAT_NOW}"));
        }
        Some(match error.kind() {
            ErrorKind::AddrInUse => return None,
            // The proxy has the privilege for this port.
            ErrorKind::PermissionDenied
                if held_by_proxy.iter().any(|held| overlap(*held, bound)) =>
            {
                return None;
            }
            ErrorKind::PermissionDenied => not_allowed(&self.proc, bound),
            ErrorKind::AddrNotAvailable => {
                format!("no network interface of this host has the address of {at}")
            }
            _ => format!("{at} cannot be listened on: {error}"),
        })
    }

    /// Who holds an address, apart from the proxy.
    fn holder(&mut self, bound: Bound, held_by_proxy: &BTreeSet<Bound>) -> Option<String> {
        let sockets = self.sockets.entry(bound.protocol);
        // A holder that the kernel does not list is another program.
        let sockets = sockets.or_insert_with(|| sockets::all(bound.protocol).unwrap_or_default());
        let is_proxys = |socket: &Socket| {
            let is_end_of = |held: &Bound| !socket.is_open && overlap(*held, socket.bound);
            held_by_proxy.contains(&socket.bound) || held_by_proxy.iter().any(is_end_of)
        };
        let holders = sockets
            .iter()
            .filter(|socket| overlap(socket.bound, bound) && !is_proxys(socket));
        let socket = *holders.max_by_key(|socket| (socket.is_open, socket.bound == bound))?;
        let processes = self
            .processes
            .get_or_insert_with(|| holder::processes(&self.proc));
        Some(holder::describe(&socket, processes.get(&socket.inode)))
    }
}

/// Listens on an address for an instant. std sets `SO_REUSEADDR` and not `SO_REUSEPORT`, so that closed connections are
/// no obstacle and every holder is.
fn listen(Bound { protocol, address }: Bound) -> io::Result<()> {
    match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
        // No proxy listens for it.
        Protocol::Sctp => Ok(()),
    }
}

/// The reason for a refusal, with the remedies if it is the port.
fn not_allowed(proc: &Path, bound: Bound) -> String {
    let first = fs::read_to_string(proc.join("sys/net/ipv4/ip_unprivileged_port_start"));
    let first = first.ok().and_then(|text| text.trim_end().parse().ok());
    let (at, port) = (shown(bound), bound.address.port());
    if port >= first.unwrap_or(UNPRIVILEGED) {
        return format!("{at} may not be listened on by this user");
    }
    format!(
        "{at} needs a privilege, because its port is so small: give this program CAP_NET_BIND_SERVICE (in systemd's unit \
         `AmbientCapabilities=CAP_NET_BIND_SERVICE`), or allow it to everybody with `sysctl \
         net.ipv4.ip_unprivileged_port_start={port}`"
    )
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use tokio::net::TcpSocket;

    use super::super::testing::comes_true;
    use super::*;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const ALL6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn check(ip: IpAddr, port: u16, protocol: Protocol) -> Result<(), String> {
        let address = (ip, port).into();
        Probe::default().check(Bound { protocol, address }, &BTreeSet::new())
    }

    fn tcp(address: SocketAddr) -> Bound {
        let protocol = Protocol::Tcp;
        Bound { protocol, address }
    }

    /// The message if this process holds an address.
    fn held_by_us(address: SocketAddr) -> Result<(), String> {
        let comm = fs::read_to_string("/proc/self/comm").expect("a command");
        let (comm, pid) = (comm.trim_end(), std::process::id());
        Err(format!(
            "`{address}` is held by `{comm}` (process {pid}): stop it, or give the service another port or address"
        ))
    }

    #[test]
    fn the_holder_of_an_address_is_named() {
        for (held, tried) in [
            (LOCALHOST, vec![LOCALHOST, ALL, ALL6]),
            (ALL, vec![LOCALHOST, ALL, ALL6]),
            (ALL6, vec![LOCALHOST, ALL, ALL6]),
        ] {
            let Ok(listener) = TcpListener::bind((held, 0)) else {
                continue; // a host without IPv6
            };
            let port = listener.local_addr().expect("an address").port();
            for ip in tried {
                let at = (ip, port).into();
                assert_eq!(
                    check(ip, port, Protocol::Tcp),
                    held_by_us(at),
                    "held by {held}"
                );
            }
            if held == LOCALHOST {
                assert_eq!(check([127, 0, 0, 2].into(), port, Protocol::Tcp), Ok(()));
            }
            drop(listener);
            let is_free = || check(LOCALHOST, port, Protocol::Tcp).is_ok();
            assert!(comes_true(is_free), "{port} is held after its holder");
        }
    }

    #[tokio::test]
    async fn a_holder_that_would_share_its_port_is_named_too() {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseport(true).expect("an option");
        socket.bind((LOCALHOST, 0).into()).expect("a port");
        let listener = socket.listen(1).expect("a listener");
        let at = listener.local_addr().expect("an address");
        assert_eq!(check(at.ip(), at.port(), Protocol::Tcp), held_by_us(at));
    }

    #[test]
    fn udp_and_tcp_are_apart() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let at = socket.local_addr().expect("an address");
        assert_eq!(check(at.ip(), at.port(), Protocol::Udp), held_by_us(at));
        assert_eq!(check(at.ip(), at.port(), Protocol::Tcp), Ok(()));
    }

    #[test]
    fn an_address_that_no_interface_has_cannot_be_listened_on() {
        // A documentation address (RFC 5737).
        assert_eq!(
            check([192, 0, 2, 1].into(), 8080, Protocol::Tcp),
            Err("no network interface of this host has the address of `192.0.2.1:8080`".to_owned())
        );
    }

    #[test]
    fn the_proxy_is_not_in_its_own_way() {
        let proxy = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let held = proxy.local_addr().expect("an address");
        let mut probe = Probe::default();
        let wildcard = SocketAddr::from((ALL, held.port()));
        let held_by_proxy = BTreeSet::from([tcp(held)]);
        let mut check = || {
            probe.begin();
            probe.check(tcp(wildcard), &held_by_proxy)
        };
        assert_eq!(check(), Ok(()));
        let other = TcpListener::bind(("127.0.0.2", held.port())).expect("a listener");
        assert_eq!(check(), held_by_us(wildcard));
        drop(other);
    }

    #[test]
    fn a_proxy_that_holds_an_address_by_tcp_does_not_hold_it_by_udp() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let at = socket.local_addr().expect("an address");
        let udp = Bound {
            protocol: Protocol::Udp,
            address: at,
        };
        let held_by = |bound| Probe::default().check(udp, &BTreeSet::from([bound]));
        assert_eq!(held_by(tcp(at)), held_by_us(at));
        assert_eq!(held_by(udp), Ok(()));
    }

    #[test]
    fn an_address_of_another_protocol_than_the_proxys_is_not_tried() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let udp = Bound {
            protocol: Protocol::Udp,
            address: socket.local_addr().expect("an address"),
        };
        let checked = Probe::new(&[Protocol::Tcp]).check(udp, &BTreeSet::new());
        assert_eq!(checked, Ok(()));
    }

    #[test]
    fn a_small_port_needs_a_privilege() {
        let proc = tempfile::tempdir().expect("a directory");
        let why = |port| not_allowed(proc.path(), tcp((LOCALHOST, port).into()));
        assert!(why(1023).contains("net.ipv4.ip_unprivileged_port_start=1023`"));
        assert_eq!(
            why(1024),
            "`127.0.0.1:1024` may not be listened on by this user"
        );
        let directory = proc.path().join("sys/net/ipv4");
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("ip_unprivileged_port_start"), "80\n").expect("a file");
        assert!(why(79).contains("CAP_NET_BIND_SERVICE"));
        assert_eq!(
            why(80),
            "`127.0.0.1:80` may not be listened on by this user"
        );
    }
}
