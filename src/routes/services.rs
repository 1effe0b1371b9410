//! Makes services of the keys that a policy has located. A malformed key costs itself alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::address::{read_address, read_port};
use super::{LeftOut, Member, Protocol, Service, ServiceId};
use crate::base::key::check_segment;
use crate::base::text::quote;
use crate::store::Found;

/// Where a key belongs, as the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The service's name.
    pub service: Arc<str>,
    /// The place of the port among the ports of its containers, from 1.
    pub index: u32,
    pub part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The service's port: `8005`, or `53/udp`.
    Port(String),
    Member {
        name: Arc<str>,
        /// `host:port`, an IPv6 address in brackets.
        address: String,
    },
    Attribute {
        name: Arc<str>,
        value: Arc<str>,
    },
}

/// The services of the last snapshot.
#[derive(Debug, Default)]
pub struct Services {
    known: BTreeMap<ServiceId, Arc<Service>>,
}

/// A service whose keys are being read.
#[derive(Debug, Default)]
struct Draft {
    port: Option<Port>,
    members: BTreeMap<Arc<str>, Member>,
    attributes: BTreeMap<Arc<str>, Arc<str>>,
    revision: i64,
}

#[derive(Debug, Clone, Copy)]
struct Port {
    number: u16,
    protocol: Protocol,
    created: i64,
}

impl Services {
    /// The services of a snapshot, sorted by id, and everything that belongs to none. An unchanged service is the same
    /// allocation as before.
    ///
    /// A `port` key may expire before the members beside it. They keep the known port meanwhile.
    pub fn build(
        &mut self,
        parts: impl IntoIterator<Item = (Found, Result<Located, String>)>,
    ) -> (Vec<Arc<Service>>, Vec<LeftOut>) {
        let mut drafts: BTreeMap<ServiceId, Draft> = BTreeMap::new();
        let mut left_out = Vec::new();
        for (found, located) in parts {
            if let Err(why) = located.and_then(|located| add(&mut drafts, &found, located)) {
                let what = format!("key {}", quote(&found.key));
                left_out.push(LeftOut { what, why });
            }
        }
        let before = std::mem::take(&mut self.known);
        for (id, draft) in drafts {
            let known = before.get(&id);
            if let Some(port) = draft.port(known) {
                let service = draft.finish(id.clone(), port);
                let unchanged = known.filter(|known| ***known == service).cloned();
                self.known
                    .insert(id, unchanged.unwrap_or_else(|| Arc::new(service)));
            } else if !draft.members.is_empty() {
                left_out.push(LeftOut {
                    what: format!("service {id}"),
                    why: "it has members, and no port is registered beside them".to_owned(),
                });
            }
        }
        left_out.sort();
        (self.known.values().cloned().collect(), left_out)
    }
}

/// Adds a key to the draft of its service.
fn add(
    drafts: &mut BTreeMap<ServiceId, Draft>,
    found: &Found,
    located: Located,
) -> Result<(), String> {
    check_name("the service name", &located.service)?;
    let id = ServiceId {
        name: located.service,
        index: located.index,
    };
    // A malformed key begins no service.
    let draft = match located.part {
        Part::Port(text) => {
            let (number, protocol) = read_port(&text)?;
            let draft = drafts.entry(id).or_default();
            is_first(draft.port.is_none(), || "port".to_owned())?;
            draft.port = Some(Port {
                number,
                protocol,
                created: found.created,
            });
            draft
        }
        Part::Member { name, address } => {
            check_name("the member", &name)?;
            let (host, port) = read_address(&address)?;
            let member = Member {
                name: name.clone(),
                host: host.into(),
                port,
                address: address.as_str().into(),
                created: found.created,
            };
            let draft = drafts.entry(id).or_default();
            is_first(!draft.members.contains_key(&name), || {
                format!("member {}", quote(&name))
            })?;
            draft.members.insert(name, member);
            draft
        }
        Part::Attribute { name, value } => {
            check_name("the attribute", &name)?;
            let draft = drafts.entry(id).or_default();
            is_first(!draft.attributes.contains_key(&name), || {
                format!("attribute {}", quote(&name))
            })?;
            draft.attributes.insert(name, value);
            draft
        }
    };
    draft.revision = draft.revision.max(found.revision);
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    check_segment(what, name, None).map_err(|error| error.to_string())
}

/// A policy may locate two keys at one place. The first one counts.
fn is_first(is_first: bool, part: impl FnOnce() -> String) -> Result<(), String> {
    if is_first {
        return Ok(());
    }
    Err(format!("another key is its service's {} already", part()))
}

impl Draft {
    /// Its own port, or the one that its members are known to have had.
    fn port(&self, known: Option<&Arc<Service>>) -> Option<Port> {
        let known = known.filter(|_| !self.members.is_empty());
        self.port.or(known.map(|known| Port {
            number: known.port,
            protocol: known.protocol,
            created: known.created,
        }))
    }

    fn finish(self, id: ServiceId, port: Port) -> Service {
        Service {
            id,
            port: port.number,
            protocol: port.protocol,
            members: self.members.into_values().collect(),
            attributes: self.attributes,
            created: port.created,
            revision: self.revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::On;

    /// A key at `/b/<path>`, put at a revision and never changed.
    fn key(path: &str, value: &str, revision: i64) -> (Found, Result<Located, String>) {
        let found = Found {
            key: format!("/b/{path}").into(),
            value: value.into(),
            on: On::Nothing,
            created: revision,
            revision,
        };
        let segments: Vec<&str> = path.split('/').collect();
        let &[service, index, name] = segments.as_slice() else {
            return (found, Err("it has the wrong number of segments".to_owned()));
        };
        let part = match name {
            "port" => Part::Port(value.to_owned()),
            "http" => Part::Attribute {
                name: name.into(),
                value: value.into(),
            },
            name => Part::Member {
                // Two keys of one member.
                name: name.trim_end_matches('+').into(),
                address: value.to_owned(),
            },
        };
        let located = Located {
            service: service.into(),
            index: index.parse().expect("an index"),
            part,
        };
        (found, Ok(located))
    }

    fn build(keys: &[(&str, &str, i64)]) -> (Vec<Arc<Service>>, Vec<LeftOut>) {
        Services::default().build(keys.iter().map(|(path, value, at)| key(path, value, *at)))
    }

    fn told(services: &[Arc<Service>]) -> Vec<String> {
        let tell = |service: &Arc<Service>| {
            let members = service.members.iter();
            let members: Vec<&str> = members.map(|member| &*member.address).collect();
            let protocol = service.protocol.name();
            format!("{} {}/{protocol} {members:?}", service.id, service.port)
        };
        services.iter().map(tell).collect()
    }

    fn why(left_out: &[LeftOut]) -> Vec<String> {
        left_out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn services_are_sorted_and_so_are_their_members() {
        let (services, left_out) = build(&[
            ("web/10/port", "53/udp", 9),
            ("web/2/z", "10.0.0.2:2", 5),
            ("web/2/port", "8005", 3),
            ("web/2/a", "[fd00::1]:1", 4),
            ("web/2/http", "a.example", 7),
            ("api/1/port", "80", 1),
        ]);
        assert!(left_out.is_empty(), "{left_out:?}");
        assert_eq!(
            told(&services),
            [
                "`api/1` 80/tcp []",
                "`web/2` 8005/tcp [\"[fd00::1]:1\", \"10.0.0.2:2\"]",
                "`web/10` 53/udp []",
            ]
        );
        let web = &services[1];
        assert_eq!((web.created, web.revision), (3, 7));
        assert_eq!(&*web.attributes["http"], "a.example");
        let a = &web.members[0];
        assert_eq!(
            (&*a.name, &*a.host, a.port, a.created),
            ("a", "fd00::1", 1, 4)
        );
    }

    #[test]
    fn a_malformed_key_costs_itself_alone() {
        let long = format!("long/1/{}", "x".repeat(10_240));
        let (services, left_out) = build(&[
            ("bad/1/port", "70000", 1),
            ("deep/1/x/y", "", 1),
            (&long, "10.0.0.1:1", 1),
            ("long/1/port", "1", 1),
            ("web/1/a", "10.0.0.1", 1),
            ("web/1/b", "10.0.0.1:0", 1),
            ("web/1/c", "name.example:80", 1),
            ("web/1/c+", "10.0.0.1:1", 1),
            ("web/1/d", "10.0.0.1\n:80", 1),
            ("web/1/port", "80", 1),
        ]);
        assert_eq!(
            told(&services),
            ["`long/1` 1/tcp []", "`web/1` 80/tcp [\"name.example:80\"]"]
        );
        let x = "x".repeat(72);
        let key = &format!("/b/{long}")[..72];
        assert_eq!(
            why(&left_out),
            [
                "key `/b/bad/1/port` is left out: `70000` is no port: ports are from 1 to 65535",
                "key `/b/deep/1/x/y` is left out: it has the wrong number of segments",
                &format!(
                    "key `{key}…` is left out: the member `{x}…` has 10240 bytes, more than 255"
                ),
                "key `/b/web/1/a` is left out: `10.0.0.1` has no port: write `host:port`",
                "key `/b/web/1/b` is left out: `0` is no port: ports are from 1 to 65535",
                "key `/b/web/1/c+` is left out: another key is its service's member `c` already",
                "key `/b/web/1/d` is left out: `10.0.0.1\\n` is neither an IP address nor a host name",
            ]
        );
    }

    #[test]
    fn members_without_a_port_are_left_out() {
        let (services, left_out) = build(&[
            ("web/1/a", "10.0.0.1:1", 1),
            ("bad/1/port", "x", 1),
            ("bad/1/a", "10.0.0.1:1", 1),
            ("none/1/http", "a.example", 1),
        ]);
        assert!(services.is_empty(), "{services:?}");
        let no_port = "is left out: it has members, and no port is registered beside them";
        assert_eq!(
            why(&left_out),
            [
                "key `/b/bad/1/port` is left out: `x` is no port number",
                &format!("service `bad/1` {no_port}"),
                &format!("service `web/1` {no_port}"),
            ]
        );
    }

    #[test]
    fn members_keep_the_port_that_was_known() {
        let mut services = Services::default();
        let port = key("web/1/port", "53/udp", 2);
        let (a, b) = (
            key("web/1/a", "10.0.0.1:1", 3),
            key("web/1/b", "10.0.0.1:2", 9),
        );
        services.build([port.clone(), a.clone()]);
        let expected = "`web/1` 53/udp [\"10.0.0.1:1\", \"10.0.0.1:2\"]";
        for gone in [vec![], vec![key("web/1/port", "malformed", 10)]] {
            let parts = gone.iter().chain([&a, &b]).cloned();
            let (built, left_out) = services.build(parts);
            assert_eq!(told(&built), [expected]);
            assert_eq!((built[0].created, built[0].revision), (2, 9));
            assert_eq!(left_out.len(), gone.len());
        }
        // Without members the service is gone, and its port is forgotten.
        assert!(services.build([]).0.is_empty());
        assert_eq!(services.build([a]).1.len(), 1);
    }

    #[test]
    fn an_unchanged_service_is_the_same_allocation() {
        let mut services = Services::default();
        let keys = [key("a/1/port", "1", 1), key("b/1/port", "2", 1)];
        let before = services.build(keys.clone()).0;
        let after = services
            .build(keys.into_iter().chain([key("b/1/x", "h:1", 2)]))
            .0;
        assert!(Arc::ptr_eq(&before[0], &after[0]));
        assert!(!Arc::ptr_eq(&before[1], &after[1]));
    }
}
