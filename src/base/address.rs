//! The addresses of this host's network interfaces.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The addresses of each network interface of this host, IPv4 before IPv6; empty if the kernel does not list them.
pub fn interfaces() -> BTreeMap<String, Vec<IpAddr>> {
    let mut interfaces: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let address = interface.ip();
        interfaces.entry(interface.name).or_default().push(address);
    }
    for addresses in interfaces.values_mut() {
        addresses.sort_unstable();
    }
    interfaces
}
