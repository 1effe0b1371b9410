//! The tables of a fleet: what was measured, the part of one host and of one reader, and the load of larger fleets that
//! follows from these parts.

use serde_json::{Value, json};

use super::counts::{BYTES, COUNTED, Counts, PROCESSOR, RANGES, RENEWALS, float, named, of};
use super::{CONTAINERS, SERVICES, shared};

/// The numbers of hosts that the load is reckoned for, each with as many containers as a measured one.
const FLEETS: [f64; 2] = [1_000.0, 10_000.0];

/// What was measured. All counts are those of a second, except `listed`.
pub struct Measured {
    pub is_proxied: bool,
    /// The number of registrars, and of readers.
    pub hosts: f64,
    pub keys: f64,
    /// The time from the start of all registrars to all keys.
    pub milliseconds: f64,
    /// The memory of all registrars and of all readers, in MiB.
    pub registrars: f64,
    pub readers: f64,
    /// The number of watches in etcd.
    pub watchers: f64,
    /// etcd before the registrars started.
    pub alone: Counts,
    /// Registrars, without readers: while nothing changes, and with a change.
    pub quiet: Counts,
    pub changing: Counts,
    /// The first listing of all readers.
    pub listed: Counts,
    /// Registrars and readers.
    pub quiet_read: Counts,
    pub changing_read: Counts,
}

/// A number that is reckoned for larger fleets: `fixed`, and `each` for each host.
struct Reckoned {
    what: &'static str,
    fixed: f64,
    each: f64,
    growth: Growth,
}

/// How the part of a host grows with the number of keys, and so of hosts.
#[derive(Clone, Copy)]
enum Growth {
    Constant,
    /// In proportion to it.
    Keys,
    /// In proportion to it up to [`PACED`]: more keys are listed less often.
    Paced,
}

/// The number of keys up to which all are listed at each `--resync` of a minute: 100 keys a second.
const PACED: f64 = 6_000.0;

impl Measured {
    /// The part of one registrar while nothing changes.
    fn of_host(&self, name: &str) -> f64 {
        (of(&self.quiet, name) - of(&self.alone, name)) / self.hosts
    }

    /// The part of one reader while nothing changes: above all its listing at each `--resync`.
    fn of_reader(&self, name: &str) -> f64 {
        (of(&self.quiet_read, name) - of(&self.quiet, name)) / self.hosts
    }

    /// The part of a change, without readers.
    fn of_change(&self, name: &str) -> f64 {
        of(&self.changing, name) - of(&self.quiet, name)
    }

    /// The part of one reader of a change.
    fn of_change_read(&self, name: &str) -> f64 {
        (of(&self.changing_read, name) - of(&self.changing, name)) / self.hosts
    }

    fn reckoned(&self) -> [Reckoned; 10] {
        let host = |what, fixed, each| Reckoned {
            what,
            fixed,
            each,
            growth: Growth::Constant,
        };
        let listing = |what, each, growth| Reckoned {
            what,
            fixed: 0.0,
            each,
            growth,
        };
        let steady = |what, name| listing(what, self.of_reader(name), Growth::Paced);
        let at_once = |what, name| listing(what, of(&self.listed, name) / self.hosts, Growth::Keys);
        let change = |what, name| host(what, self.of_change(name), self.of_change_read(name));
        [
            // An owned lease and a seat.
            host("leases", float(shared()), 2.0),
            host("renewals a second", 0.0, self.of_host(RENEWALS)),
            host("watches", 0.0, self.watchers / self.hosts),
            change("one change: bytes from etcd", BYTES),
            change("one change: ms of etcd's processor", PROCESSOR),
            steady("steady, a second: Range calls", RANGES),
            steady("steady, a second: bytes from etcd", BYTES),
            steady("steady, a second: ms of processor", PROCESSOR),
            at_once("all list once: bytes from etcd", BYTES),
            at_once("all list once: ms of processor", PROCESSOR),
        ]
    }

    /// A number for so many hosts. For the measured ones it is what was measured.
    fn reckon(&self, number: &Reckoned, hosts: f64) -> f64 {
        let keys = 2.0 * f64::from(CONTAINERS) * hosts + float(shared());
        let growth = match number.growth {
            Growth::Constant => 1.0,
            Growth::Keys => keys / self.keys,
            Growth::Paced => (keys.min(PACED) / self.keys).max(1.0),
        };
        number.fixed + number.each * hosts * growth
    }
}

/// Prints both tables. Returns their numbers.
pub fn print(measured: &Measured) -> Value {
    let hosts = measured.hosts;
    let (registrar, reader) = (measured.registrars / hosts, measured.readers / hosts);
    let way = if measured.is_proxied {
        "through etcd grpc-proxy"
    } else {
        "directly"
    };
    println!(
        "{hosts} registrars with {CONTAINERS} containers each, of the same {SERVICES} services, and {hosts} readers, on \
         one etcd, {way}\n\
         all registrars started at once → all {} keys: {:.0} ms; memory of a registrar: {registrar:.1} MiB, of a \
         reader: {reader:.1} MiB",
        measured.keys, measured.milliseconds,
    );
    let heads = [
        "registrars",
        "+ change",
        "+ readers",
        "+ both",
        "a host",
        "a reader",
        "a change",
        "a reader of it",
    ];
    println!(
        "{:28}{}",
        "a second",
        heads.map(|head| format!("{head:>14}")).concat()
    );
    for (name, _) in COUNTED {
        let columns = [
            of(&measured.quiet, name),
            of(&measured.changing, name),
            of(&measured.quiet_read, name),
            of(&measured.changing_read, name),
            measured.of_host(name),
            measured.of_reader(name),
            measured.of_change(name),
            measured.of_change_read(name),
        ];
        println!(
            "{name:28}{}",
            columns.map(|number| format!("{number:>14.3}")).concat()
        );
    }
    let proxies = if measured.is_proxied {
        format!(", with a proxy for each {hosts}")
    } else {
        String::new()
    };
    println!(
        "reckoned in proportion to the hosts{proxies}; a listing of all readers, to the hosts and to the keys\n\
         {:36}{hosts:>16}{:>20}{:>20}",
        "hosts", FLEETS[0], FLEETS[1],
    );
    let reckoned = measured.reckoned();
    for number in &reckoned {
        let [small, large] = FLEETS.map(|hosts| measured.reckon(number, hosts));
        let own = measured.reckon(number, hosts);
        println!("{:36}{own:>16.1}{small:>20.1}{large:>20.1}", number.what);
    }
    let for_all = |number: &Reckoned| {
        let of_all = [hosts, FLEETS[0], FLEETS[1]].map(|hosts| measured.reckon(number, hosts));
        (number.what, of_all.to_vec())
    };
    let reckoned: Value = reckoned.iter().map(for_all).collect();
    json!({
        "hosts": hosts, "keys": measured.keys, "milliseconds to all keys": measured.milliseconds,
        "MiB of a registrar": registrar, "MiB of a reader": reader, "watches": measured.watchers,
        "a second": {
            "etcd alone": named(&measured.alone),
            "registrars": named(&measured.quiet),
            "registrars, a change": named(&measured.changing),
            "and readers": named(&measured.quiet_read),
            "and readers, a change": named(&measured.changing_read),
        },
        "first listing of all readers": named(&measured.listed),
        "reckoned for these, 1,000 and 10,000 hosts": reckoned,
    })
}
