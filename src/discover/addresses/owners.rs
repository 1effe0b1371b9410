//! Decides which service has an address.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Probe, overlap, shown};
use crate::routes::{Bound, Claim, Protocol, ServiceId};

/// The owners of all addresses that were settled last. An owner keeps its address until it no longer claims it.
#[derive(Debug)]
pub struct Owners {
    probe: Option<Probe>,
    owned: BTreeSet<Tenure>,
    /// The claims that were settled last, if each got its address: the same claims get them again.
    granted: Option<Vec<Claim>>,
}

/// An address, and who has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Tenure {
    bound: Bound,
    /// None for all services that share it.
    owner: Option<ServiceId>,
}

/// The claims of one tenure.
#[derive(Debug)]
struct Candidate {
    /// The age and the name of its oldest service.
    eldest: (i64, ServiceId),
    /// Their places among all claims.
    claims: Vec<usize>,
}

impl Owners {
    /// Without a probe no address is tried: the proxy runs elsewhere, or nothing is going to listen.
    pub fn new(probe: Option<Probe>) -> Self {
        Self {
            probe,
            owned: BTreeSet::new(),
            granted: None,
        }
    }

    /// Forgets the owners, so that every address is tried again: the proxy could not listen on one of them.
    pub fn forget(&mut self) {
        self.owned.clear();
        self.granted = None;
    }

    /// Which of the claims get their address, in their order; the others have the reason for an operator.
    ///
    /// An address is its owner's, else the older service's, else that of the first by id. A new one is tried, unless the
    /// proxy listens on it already (`held_by_proxy`). The trial listens for an instant, and a search for the program
    /// that holds an address reads all of `/proc`, so this blocks for some milliseconds.
    pub fn settle(
        &mut self,
        claims: &[Claim],
        held_by_proxy: &BTreeSet<Bound>,
    ) -> Vec<Result<(), String>> {
        if self.granted.as_deref() == Some(claims) {
            return vec![Ok(()); claims.len()];
        }
        let mut ranked: Vec<(Tenure, Candidate)> = candidates(claims).into_iter().collect();
        // Tenures are sorted already, so that the order never depends on that of the claims.
        ranked.sort_by_cached_key(|(tenure, candidate)| {
            let is_new = !self.owned.contains(tenure);
            (is_new, candidate.eldest.clone())
        });
        if let Some(probe) = &mut self.probe {
            probe.begin();
        }
        let mut settled: Vec<Result<(), String>> = vec![Ok(()); claims.len()];
        // By port, because those of different ports never collide.
        let mut owned: HashMap<(Protocol, u16), Vec<(Tenure, Candidate)>> = HashMap::new();
        for (tenure, candidate) in ranked {
            let of_port = owned.entry(tenure.port()).or_default();
            let rival = of_port.iter().find(|(rival, _)| rival.collides(&tenure));
            let result = match rival {
                Some((rival, of)) => Err(self.lost(&tenure, &candidate, rival, of)),
                None => self.try_address(&tenure, held_by_proxy),
            };
            for claim in &candidate.claims {
                settled[*claim].clone_from(&result);
            }
            if result.is_ok() {
                of_port.push((tenure, candidate));
            }
        }
        let owned = owned.into_values().flatten();
        self.owned = owned.map(|(tenure, _)| tenure).collect();
        let is_granted = settled.iter().all(Result::is_ok);
        self.granted = is_granted.then(|| claims.to_vec());
        settled
    }

    fn try_address(
        &mut self,
        tenure: &Tenure,
        held_by_proxy: &BTreeSet<Bound>,
    ) -> Result<(), String> {
        let is_had = self.owned.contains(tenure) || held_by_proxy.contains(&tenure.bound);
        match &mut self.probe {
            Some(probe) if !is_had => probe.check(tenure.bound, held_by_proxy),
            _ => Ok(()),
        }
    }

    /// The reason for a claim that lost to another one.
    fn lost(
        &self,
        tenure: &Tenure,
        candidate: &Candidate,
        rival: &Tenure,
        of: &Candidate,
    ) -> String {
        let address = shown(tenure.bound);
        let part = if rival.bound == tenure.bound {
            address
        } else {
            format!("{address} overlaps with {}, which", shown(rival.bound))
        };
        let (created, eldest) = &of.eldest;
        if rival.owner == tenure.owner {
            return format!("{part} the same service has");
        }
        let owner = match &rival.owner {
            Some(owner) => format!("service {owner}"),
            None => format!("service {eldest}, which shares it with others by host name"),
        };
        let why = if self.owned.contains(rival) {
            "had it first"
        } else if *created < candidate.eldest.0 {
            "is older"
        } else {
            "comes first by name"
        };
        format!("{part} belongs to {owner} ({why}): give one of them another port or address")
    }
}

impl Tenure {
    fn port(&self) -> (Protocol, u16) {
        (self.bound.protocol, self.bound.address.port())
    }

    fn collides(&self, other: &Self) -> bool {
        overlap(self.bound, other.bound)
    }
}

/// The claims by what they would make of an address. A service that claims an address twice has one tenure.
fn candidates(claims: &[Claim]) -> BTreeMap<Tenure, Candidate> {
    let mut candidates: BTreeMap<Tenure, Candidate> = BTreeMap::new();
    for (place, claim) in claims.iter().enumerate() {
        let tenure = Tenure {
            bound: claim.bound,
            owner: (!claim.is_shared).then(|| claim.service.clone()),
        };
        let age = (claim.created, claim.service.clone());
        let candidate = candidates.entry(tenure).or_insert_with(|| Candidate {
            eldest: age.clone(),
            claims: Vec::new(),
        });
        candidate.claims.push(place);
        if age < candidate.eldest {
            candidate.eldest = age;
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::comes_true;
    use super::*;

    fn claim(service: &str, created: i64, address: &str) -> Claim {
        Claim {
            service: ServiceId {
                name: service.into(),
                index: 1,
            },
            created,
            bound: Bound {
                protocol: Protocol::Tcp,
                address: address.parse().expect("an address"),
            },
            is_shared: false,
        }
    }

    fn shared(service: &str, created: i64, address: &str) -> Claim {
        Claim {
            is_shared: true,
            ..claim(service, created, address)
        }
    }

    fn udp(claim: Claim) -> Claim {
        Claim {
            bound: Bound {
                protocol: Protocol::Udp,
                ..claim.bound
            },
            ..claim
        }
    }

    /// Whether each claim gets its address.
    fn settle<const COUNT: usize>(owners: &mut Owners, claims: &[Claim; COUNT]) -> [bool; COUNT] {
        let settled = owners.settle(claims, &BTreeSet::new());
        let settled: Vec<bool> = settled.iter().map(Result::is_ok).collect();
        settled.try_into().expect("a result for each claim")
    }

    fn why(owners: &mut Owners, claims: &[Claim]) -> Vec<String> {
        let settled = owners.settle(claims, &BTreeSet::new()).into_iter();
        settled.filter_map(Result::err).collect()
    }

    #[test]
    fn the_older_service_gets_the_address_else_the_first_by_name() {
        let owners = || Owners::new(None);
        let claims = [claim("a", 2, "127.0.0.1:80"), claim("b", 1, "127.0.0.1:80")];
        assert_eq!(settle(&mut owners(), &claims), [false, true]);
        assert_eq!(
            why(&mut owners(), &claims),
            [
                "`127.0.0.1:80` belongs to service `b/1` (is older): give one of them another port or address"
            ]
        );
        let claims = [claim("b", 1, "127.0.0.1:80"), claim("a", 1, "127.0.0.1:80")];
        assert_eq!(settle(&mut owners(), &claims), [false, true]);
        let [why] = &*why(&mut owners(), &claims) else {
            panic!("one refusal");
        };
        assert!(why.contains("`a/1` (comes first by name)"), "{why}");
        // Another address, another port, another protocol.
        let claims = [
            claim("a", 1, "127.0.0.1:80"),
            claim("b", 2, "127.0.0.2:80"),
            claim("c", 3, "127.0.0.1:81"),
            udp(claim("d", 4, "127.0.0.1:80")),
        ];
        assert_eq!(settle(&mut owners(), &claims), [true; 4]);
    }

    #[test]
    fn an_owner_keeps_its_address_until_it_no_longer_claims_it() {
        let mut owners = Owners::new(None);
        let (young, old) = (claim("z", 9, "127.0.0.1:80"), claim("a", 1, "127.0.0.1:80"));
        assert_eq!(settle(&mut owners, std::array::from_ref(&young)), [true]);
        for _ in 0..2 {
            let settled = settle(&mut owners, &[old.clone(), young.clone()]);
            assert_eq!(settled, [false, true]);
        }
        let [why] = &*why(&mut owners, &[old.clone(), young.clone()]) else {
            panic!("one refusal");
        };
        assert!(why.contains("service `z/1` (had it first)"), "{why}");
        assert_eq!(settle(&mut owners, std::array::from_ref(&old)), [true]);
        assert_eq!(settle(&mut owners, &[old, young]), [true, false]);
    }

    #[test]
    fn a_wildcard_collides_with_the_addresses_of_its_port() {
        let mut owners = Owners::new(None);
        let claims = [
            claim("a", 1, "0.0.0.0:80"),
            claim("b", 2, "127.0.0.1:80"),
            claim("c", 3, "[::]:80"),
            claim("d", 4, "[::1]:80"),
        ];
        assert_eq!(settle(&mut owners, &claims), [true, false, false, true]);
        let why = why(&mut owners, &claims);
        assert!(
            why[0].starts_with(
                "`127.0.0.1:80` overlaps with `0.0.0.0:80`, which belongs to service `a/1`"
            ),
            "{why:?}"
        );
        // Also with those of the same service, because both cannot be bound.
        let claims = [claim("a", 1, "127.0.0.1:81"), claim("a", 1, "0.0.0.0:81")];
        assert_eq!(
            settle(&mut owners, &claims)
                .iter()
                .filter(|is| **is)
                .count(),
            1
        );
    }

    #[test]
    fn services_share_an_address_with_each_other_and_not_with_an_owner() {
        let mut owners = Owners::new(None);
        let claims = [
            shared("b", 5, "127.0.0.1:80"),
            claim("x", 3, "127.0.0.1:80"),
            shared("a", 2, "127.0.0.1:80"),
        ];
        assert_eq!(settle(&mut owners, &claims), [true, false, true]);
        // The group stays when its oldest service leaves.
        assert_eq!(
            settle(&mut owners, &[claims[0].clone(), claims[1].clone()]),
            [true, false]
        );
        let mut owners = Owners::new(None);
        assert_eq!(
            settle(&mut owners, &[claims[0].clone(), claims[1].clone()]),
            [false, true]
        );
        assert_eq!(settle(&mut owners, &claims), [false, true, false]);
    }

    #[test]
    fn an_address_that_is_held_is_refused_until_it_is_free() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut owners = Owners::new(Some(Probe::default()));
        let at = holder.local_addr().expect("an address");
        let claims = [claim("a", 1, &at.to_string())];
        let [Claim { bound: held, .. }] = claims;
        assert_eq!(settle(&mut owners, &claims), [false]);
        // An address that is held by UDP is not held by TCP.
        let other = udp(claims[0].clone()).bound;
        let settled = owners.settle(&claims, &BTreeSet::from([other]));
        assert!(settled[0].is_err(), "{settled:?}");
        // The proxy's own address is not tried, and its owner has it from then on.
        assert_eq!(owners.settle(&claims, &BTreeSet::from([held])), [Ok(())]);
        assert_eq!(settle(&mut owners, &claims), [true]);
        owners.forget();
        assert_eq!(settle(&mut owners, &claims), [false]);
        drop(holder);
        assert!(comes_true(|| settle(&mut owners, &claims) == [true]));
    }

    /// The claims of a moment: few services, ports and addresses, so that many collide.
    fn any_claims() -> impl Strategy<Value = Vec<Claim>> {
        let addresses = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::]", "[::1]"];
        let any_claim = (
            prop::sample::select(vec!["a", "b", "c", "d"]),
            0..3_i64,
            prop::sample::select(addresses.to_vec()),
            80..83_u16,
            any::<bool>(),
        );
        let any_claim = any_claim.prop_map(|(service, created, ip, port, is_shared)| Claim {
            is_shared,
            ..claim(service, created, &format!("{ip}:{port}"))
        });
        vec(any_claim, 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn claims_that_were_granted_are_settled_as_any_others(
            moments in vec(any_claims(), 1..6),
            order in vec(any::<prop::sample::Index>(), 1..20),
        ) {
            let [mut owners, mut from_scratch] = [(); 2].map(|()| Owners::new(None));
            for place in order {
                let claims = place.get(&moments);
                from_scratch.granted = None;
                let settled = owners.settle(claims, &BTreeSet::new());
                prop_assert_eq!(&settled, &from_scratch.settle(claims, &BTreeSet::new()));
                let owned: Vec<&Tenure> = owners.owned.iter().collect();
                for (place, tenure) in owned.iter().enumerate() {
                    let others = &owned[place + 1..];
                    prop_assert!(!others.iter().any(|other| other.collides(tenure)));
                }
                for (claim, settled) in claims.iter().zip(&settled) {
                    let collides = owned.iter().any(|it| overlap(it.bound, claim.bound));
                    prop_assert!(collides, "{:?} {:?}", claim, settled);
                }
            }
        }
    }
}
