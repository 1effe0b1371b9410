//! The state of the running worker, from `show servers state` and `show stat`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::routes::Servers;

/// The bits of `srv_admin_state` that mean maintenance, for any reason: forced, inherited, configured, for lack of an
/// address, by its name in DNS.
const MAINTENANCE: u32 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// All backends with their servers, by their names. Two looks share those that only one of them was about.
    pub backends: BTreeMap<Arc<str>, Arc<BTreeMap<Arc<str>, RunningServer>>>,
    /// Whether each accepts connections.
    pub frontends: BTreeMap<Arc<str>, bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningServer {
    pub name: Arc<str>,
    /// None for one without an IP address, such as a Unix socket.
    pub address: Option<SocketAddr>,
    pub is_maint: bool,
    pub health: Health,
    /// The number of open connections.
    pub sessions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Up,
    Down,
    Maint,
    /// No new connections, except persistent ones.
    Drain,
    /// Not checked, and so taken for up.
    Unknown,
}

impl Health {
    /// Whether it gets requests.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Unknown)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Maint => "maint",
            Self::Drain => "drain",
            Self::Unknown => "unchecked",
        }
    }
}

/// A server's line in `show stat`.
struct Statistics {
    health: Health,
    sessions: u64,
}

impl Running {
    /// The error is the answer that cannot be read.
    pub(super) fn read<'a>(state: &'a str, stat: &'a str) -> Result<Self, &'a str> {
        let mut running = Self::default();
        let statistics = running.read_statistics(stat).ok_or(stat)?;
        for row in rows(state)? {
            let (backend, server) = server(row, &statistics).ok_or(row.line)?;
            let backend = running.backends.entry(backend.into()).or_default();
            Arc::make_mut(backend).insert(Arc::clone(&server.name), server);
        }
        Ok(running)
    }

    /// One backend with its frontend. `show stat` has been asked for each.
    pub(super) fn read_one<'a>(
        state: &'a str,
        stat: &'a str,
        of_frontend: &'a str,
    ) -> Result<Self, &'a str> {
        let mut running = Self::read(state, stat)?;
        running.read_statistics(of_frontend).ok_or(of_frontend)?;
        Ok(running)
    }

    /// Takes in a newer look at some servers. What it lacks runs no more.
    pub(super) fn replace(&mut self, servers: &Servers, newer: Self) {
        self.backends.remove(&servers.backend);
        if let Some(frontend) = &servers.frontend {
            self.frontends.remove(frontend);
        }
        self.backends.extend(newer.backends);
        self.frontends.extend(newer.frontends);
    }

    /// Notes backends and frontends, and returns what `show stat` has about servers, by backend and name.
    fn read_statistics<'a>(
        &mut self,
        stat: &'a str,
    ) -> Option<BTreeMap<(&'a str, &'a str), Statistics>> {
        let mut lines = stat.lines().filter(|line| !line.is_empty());
        let columns: Vec<&str> = lines.next()?.strip_prefix("# ")?.split(',').collect();
        let place = |name| columns.iter().position(|it| *it == name);
        let (proxy, server) = (place("pxname")?, place("svname")?);
        let (sessions, status) = (place("scur")?, place("status")?);
        let mut statistics = BTreeMap::new();
        for line in lines {
            // Free text with commas and quotes comes later.
            let values: Vec<&str> = line.splitn(status + 2, ',').collect();
            let (proxy, status) = (*values.get(proxy)?, *values.get(status)?);
            match *values.get(server)? {
                "FRONTEND" => {
                    let accepts = matches!(status, "OPEN" | "FULL");
                    self.frontends.insert(proxy.into(), accepts);
                }
                "BACKEND" => {
                    self.backends.entry(proxy.into()).or_default();
                }
                server => {
                    let its = Statistics {
                        health: Health::of(status),
                        sessions: values.get(sessions)?.parse().ok()?,
                    };
                    statistics.insert((proxy, server), its);
                }
            }
        }
        Some(statistics)
    }
}

/// `show servers state` as it is, with those rows alone that `holds`. The error is the answer that cannot be read.
pub fn state_file<'a>(
    state: &'a str,
    stat: &'a str,
    holds: impl Fn(&str, &RunningServer) -> bool,
) -> Result<String, &'a str> {
    let statistics = Running::default().read_statistics(stat).ok_or(stat)?;
    let mut kept = String::new();
    for line in state.lines().take_while(|line| !is_row(line)) {
        kept.push_str(line);
        kept.push('\n');
    }
    for row in rows(state)? {
        let (backend, server) = server(row, &statistics).ok_or(row.line)?;
        if holds(backend, &server) {
            kept.push_str(row.line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

/// A row of `show servers state`, and the places of its columns.
#[derive(Clone, Copy)]
struct Row<'a> {
    columns: Columns,
    line: &'a str,
}

#[derive(Clone, Copy)]
struct Columns {
    backend: usize,
    name: usize,
    address: usize,
    admin: usize,
    port: usize,
}

/// The rows of a version of the format that is known: it has been 1 since 2015.
fn rows(state: &str) -> Result<impl Iterator<Item = Row<'_>>, &str> {
    let mut lines = state.lines();
    let head = (lines.next() == Some("1")).then(|| lines.next()).flatten();
    let columns = head.and_then(Columns::of).ok_or(state)?;
    let rows = lines.filter(|line| is_row(line));
    Ok(rows.map(move |line| Row { columns, line }))
}

fn is_row(line: &str) -> bool {
    line.contains(' ') && !line.starts_with('#')
}

impl Columns {
    fn of(head: &str) -> Option<Self> {
        let names: Vec<&str> = head.strip_prefix("# ")?.split(' ').collect();
        let place = |name| names.iter().position(|it| *it == name);
        Some(Self {
            backend: place("be_name")?,
            name: place("srv_name")?,
            address: place("srv_addr")?,
            admin: place("srv_admin_state")?,
            port: place("srv_port")?,
        })
    }
}

fn server<'a>(
    row: Row<'a>,
    statistics: &BTreeMap<(&str, &str), Statistics>,
) -> Option<(&'a str, RunningServer)> {
    let Row { columns, line } = row;
    let values: Vec<&str> = line.split(' ').collect();
    let value = |place: usize| values.get(place).copied();
    let (backend, name) = (value(columns.backend)?, value(columns.name)?);
    let ip: Option<IpAddr> = value(columns.address)?.parse().ok();
    let port: u16 = value(columns.port)?.parse().ok()?;
    let admin: u32 = value(columns.admin)?.parse().ok()?;
    // Missing if it was added between the two answers.
    let its = statistics.get(&(backend, name));
    let server = RunningServer {
        name: name.into(),
        address: ip.map(|ip| SocketAddr::new(ip, port)),
        is_maint: admin & MAINTENANCE != 0,
        health: its.map_or(Health::Unknown, |its| its.health),
        sessions: its.map_or(0, |its| its.sessions),
    };
    Some((backend, server))
}

impl Health {
    /// From a status, such as `UP 1/3` while it is going down, or `MAINT (via web/a)`.
    fn of(status: &str) -> Self {
        match status.split(' ').next() {
            Some("UP") => Self::Up,
            Some("DOWN") => Self::Down,
            Some("MAINT") => Self::Maint,
            Some("DRAIN" | "NOLB") => Self::Drain,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1\n\
        # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n\
        2 web 1 a 10.0.0.1 2 0 80\n2 web 2 b ::1 0 1 81\n2 web 3 c - 2 8 0\n";
    const STAT: &str = "# pxname,svname,scur,status,last_chk,\n\
        web,FRONTEND,3,OPEN,,\nidle,FRONTEND,0,PAUSED,,\nweb,a,2,UP 1/3,\"a, b\",\n\
        web,b,1,MAINT (via x/y),,\nweb,BACKEND,3,UP,,\nempty,BACKEND,0,DOWN,,\n";

    #[test]
    fn servers_are_read_with_their_sessions() {
        let running = Running::read(STATE, STAT).unwrap();
        let server =
            |name: &str, address: Option<&str>, is_maint, health, sessions| RunningServer {
                name: name.into(),
                address: address.map(|address| address.parse().unwrap()),
                is_maint,
                health,
                sessions,
            };
        let servers = [
            server("a", Some("10.0.0.1:80"), false, Health::Up, 2),
            server("b", Some("[::1]:81"), true, Health::Maint, 1),
            server("c", None, false, Health::Unknown, 0),
        ];
        let web = &running.backends["web"];
        assert!(web.values().eq(servers.iter()), "{web:?}");
        assert!(running.backends["empty"].is_empty());
        let frontends = [("idle".into(), false), ("web".into(), true)];
        assert_eq!(running.frontends, BTreeMap::from(frontends));
    }

    #[test]
    fn an_answer_of_another_form_is_an_error_and_no_empty_list() {
        for (state, stat) in [
            ("", STAT),
            ("Permission denied", STAT),
            ("2\n# be_id be_name", STAT),
            ("1\n# be_id be_name", STAT),
            (STATE, ""),
            (STATE, "Permission denied"),
            (STATE, "# pxname,svname\nweb,a"),
            (STATE, "# pxname,svname,scur,status\nweb,a"),
            (
                "1\n# be_name srv_name srv_addr srv_admin_state srv_port\nweb a",
                STAT,
            ),
        ] {
            assert!(Running::read(state, stat).is_err(), "{state} {stat}");
            assert!(
                state_file(state, stat, |_, _| true).is_err(),
                "{state} {stat}"
            );
        }
    }

    #[test]
    fn a_state_file_keeps_its_head_and_the_rows_that_hold() {
        let kept = state_file(STATE, STAT, |_, server| !server.is_maint).unwrap();
        let (head, rows) = kept.split_at(STATE.find("2 web").unwrap());
        assert!(STATE.starts_with(head));
        assert_eq!(rows, "2 web 1 a 10.0.0.1 2 0 80\n2 web 3 c - 2 8 0\n");
        assert_eq!(state_file(STATE, STAT, |_, _| true).unwrap(), STATE);
    }
}
