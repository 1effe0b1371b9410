use imbl::OrdMap;
use proptest::prelude::*;

use super::*;
use crate::base::key::Key;
use crate::store::On;

impl Services {
    /// The services of these keys, which are all located anew.
    fn build(
        &mut self,
        keys: impl IntoIterator<Item = (Found, Result<Located, String>)>,
    ) -> (Vec<Arc<Service>>, Vec<LeftOut>) {
        let (mut places, mut snapshot) = (Places::default(), OrdMap::new());
        for (found, located) in keys {
            places.locate(&found.key, located);
            snapshot.insert(Key::clone(&found.key), found);
        }
        places.follow(&snapshot);
        self.update(&mut places)
    }
}

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
            address: value.into(),
            port: None,
        },
    };
    let located = Located {
        service: service.into(),
        index: index.parse().expect("an index"),
        part,
    };
    (found, Ok(located))
}

/// A key of registrator at `/b/<service>/<host>:<container>:<port>[:udp]`.
fn registrators(path: &str, value: &str, revision: i64) -> (Found, Result<Located, String>) {
    let (service, member) = path.split_once('/').expect("a service");
    let (found, _) = key(path, value, revision);
    let (member_of_tcp, protocol) = match member.strip_suffix(":udp") {
        Some(member) => (member, "/udp"),
        None => (member, ""),
    };
    let (_, number) = member_of_tcp.rsplit_once(':').expect("a port");
    let part = Part::Member {
        name: member.into(),
        address: value.into(),
        port: Some(format!("{number}{protocol}")),
    };
    let located = Located {
        service: service.into(),
        index: 1,
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
            &format!("key `{key}…` is left out: the member `{x}…` has 10240 bytes, more than 255"),
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
fn a_service_without_a_port_key_has_the_port_that_its_members_tell() {
    let mut services = Services::default();
    let keys = [
        registrators("dns/a:dns:53:udp", "10.0.0.1:32768", 5),
        registrators("web/a:web:8005", "10.0.0.1:32769", 7),
        registrators("web/b:web:8005", "10.0.0.2:32770", 3),
    ];
    let (built, left_out) = services.build(keys);
    assert!(left_out.is_empty(), "{left_out:?}");
    assert_eq!(
        told(&built),
        [
            "`dns/1` 53/udp [\"10.0.0.1:32768\"]",
            "`web/1` 8005/tcp [\"10.0.0.1:32769\", \"10.0.0.2:32770\"]",
        ]
    );
    assert_eq!((built[1].created, built[1].revision), (3, 7));
    // The service goes with its last member.
    let (built, left_out) = services.build([registrators("dns/a:dns:53:udp", "10.0.0.1:1", 9)]);
    assert_eq!(told(&built), ["`dns/1` 53/udp [\"10.0.0.1:1\"]"]);
    assert!(left_out.is_empty(), "{left_out:?}");
}

#[test]
fn members_that_tell_another_port_than_the_oldest_are_left_out() {
    let older = registrators("web/b:web:80", "10.0.0.2:1", 3);
    let other = registrators("web/a:web:81:udp", "10.0.0.1:1", 4);
    let same = registrators("web/c:web:80", "10.0.0.3:1", 5);
    let mut services = Services::default();
    let (built, left_out) = services.build([other.clone(), older, same.clone()]);
    let expected = "`web/1` 80/tcp [\"10.0.0.2:1\", \"10.0.0.3:1\"]";
    assert_eq!(told(&built), [expected]);
    assert_eq!(
        why(&left_out),
        [
            "member `a:web:81:udp` of service `web/1` is left out: its port is `81/udp`, and that of the service's \
             oldest member, `b:web:80`, is `80`: give one of them another service name"
        ]
    );
    // When the oldest goes, the next one counts.
    let (built, left_out) = services.build([other, same]);
    assert_eq!(told(&built), ["`web/1` 81/udp [\"10.0.0.1:1\"]"]);
    assert_eq!(left_out.len(), 1);
}

#[test]
fn a_port_key_beats_the_ports_that_members_tell() {
    let member = |revision| registrators("web/a:web:80", "10.0.0.1:1", revision);
    let (built, left_out) = Services::default().build([member(1), key("web/1/port", "81", 2)]);
    assert_eq!(told(&built), ["`web/1` 81/tcp [\"10.0.0.1:1\"]"]);
    assert!(left_out.is_empty(), "{left_out:?}");
    let (found, located) = member(1);
    let located = located.map(|located| Located {
        part: Part::Member {
            name: "a".into(),
            address: "10.0.0.1:1".into(),
            port: Some("0".to_owned()),
        },
        ..located
    });
    let (built, left_out) = Services::default().build([(found, located)]);
    assert!(built.is_empty(), "{built:?}");
    assert_eq!(
        why(&left_out),
        ["key `/b/web/a:web:80` is left out: `0` is no port: ports are from 1 to 65535"]
    );
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

/// A key of few services, and its value if it is put. Some values are malformed, and some keys belong to none.
fn any_change() -> impl Strategy<Value = (&'static str, Option<&'static str>)> {
    let paths = [
        "a/1/port", "a/1/http", "a/1/m", "a/1/m+", "a/1/n", "a/2/m", "b/1/port", "b/1/m", "c",
        "b/1/x/y",
    ];
    let values = ["80", "81/udp", "10.0.0.1:1", "h.example:2", "malformed"];
    (
        prop::sample::select(paths.to_vec()),
        prop::option::weighted(0.7, prop::sample::select(values.to_vec())),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_make_the_same_services_as_all_keys_do(
        bursts in prop::collection::vec(prop::collection::vec(any_change(), 0..5), 1..20),
    ) {
        let (mut services, mut places) = (Services::default(), Places::default());
        let mut from_scratch = Services::default();
        let mut snapshot: OrdMap<Key, Found> = OrdMap::new();
        let mut revision = 0;
        for (place, burst) in bursts.into_iter().enumerate() {
            for (path, value) in burst {
                revision += 1;
                let (mut found, _) = key(path, value.unwrap_or_default(), revision);
                let before = snapshot.remove(&found.key);
                if value.is_some() {
                    found.created = before.map_or(revision, |before| before.created);
                    snapshot.insert(Key::clone(&found.key), found);
                }
            }
            let located = |found: &Found| key(&found.key["/b/".len()..], &found.value, 0).1;
            if place % 7 == 6 {
                // The policy is loaded again.
                places = Places::default();
            }
            for found in places.unlocated(&snapshot) {
                places.locate(&found.key, located(&found));
            }
            places.follow(&snapshot);
            let updated = services.update(&mut places);
            let all = snapshot.values().map(|found| (found.clone(), located(found)));
            prop_assert_eq!(updated, from_scratch.build(all));
        }
    }
}
