//! Reads ports and addresses as registrars write them.

use std::net::Ipv6Addr;

use super::Protocol;
use crate::base::text::quote;

/// The longest host name (RFC 1035, 2.3.4).
const LONGEST_HOST: usize = 253;

/// A service's port: `8005`, or `53/udp`.
pub fn read_port(text: &str) -> Result<(u16, Protocol), String> {
    let (number, protocol) = match text.split_once('/') {
        Some((number, name)) => (
            number,
            Protocol::named(name).ok_or_else(|| {
                format!(
                    "{} is no protocol: `tcp`, `udp` and `sctp` are",
                    quote(name)
                )
            })?,
        ),
        None => (text, Protocol::Tcp),
    };
    Ok((read_number(number)?, protocol))
}

/// The host and the port of `host:port`. An IPv6 address is in brackets, which the host comes without.
pub fn read_address(text: &str) -> Result<(&str, u16), String> {
    let (host, port) = split_address(text)?;
    Ok((host, read_number(port)?))
}

fn split_address(text: &str) -> Result<(&str, &str), String> {
    let no_port = || format!("{} has no port: write `host:port`", quote(text));
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| format!("{} has no closing bracket", quote(text)))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{} is no IPv6 address", quote(host)));
        }
        return Ok((host, rest.strip_prefix(':').ok_or_else(no_port)?));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(no_port());
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
    if host.contains(':') {
        return Err(format!(
            "{} has an IPv6 address without brackets",
            quote(text)
        ));
    }
    if !is_host(host) {
        return Err(format!(
            "{} is neither an IP address nor a host name",
            quote(host)
        ));
    }
    Ok((host, port))
}

/// Whether it may be an IPv4 address or a host name. Nothing else reaches a proxy's configuration.
fn is_host(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let has_name = text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    has_name && text.len() <= LONGEST_HOST && text.bytes().all(is_legal)
}

/// A port from 1 to 65535, in digits alone.
fn read_number(text: &str) -> Result<u16, String> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port @ 1..) if is_digits => Ok(port),
        _ if is_digits => Err(format!(
            "{} is no port: ports are from 1 to 65535",
            quote(text)
        )),
        _ => Err(format!("{} is no port number", quote(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_with_or_without_a_protocol() {
        assert_eq!(read_port("8005"), Ok((8005, Protocol::Tcp)));
        assert_eq!(read_port("65535/tcp"), Ok((65535, Protocol::Tcp)));
        assert_eq!(read_port("53/udp"), Ok((53, Protocol::Udp)));
        assert_eq!(read_port("1/sctp"), Ok((1, Protocol::Sctp)));
        for (text, why) in [
            ("0", "`0` is no port: ports are from 1 to 65535"),
            ("70000", "`70000` is no port: ports are from 1 to 65535"),
            (
                "99999999999999999999",
                "`99999999999999999999` is no port: ports are from 1 to 65535",
            ),
            ("http", "`http` is no port number"),
            ("", "`` is no port number"),
            ("+80", "`+80` is no port number"),
            ("-1", "`-1` is no port number"),
            ("80\n", "`80\\n` is no port number"),
            ("0x50", "`0x50` is no port number"),
            (
                "53/UDP",
                "`UDP` is no protocol: `tcp`, `udp` and `sctp` are",
            ),
            ("53/", "`` is no protocol: `tcp`, `udp` and `sctp` are"),
            ("/udp", "`` is no port number"),
        ] {
            assert_eq!(read_port(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(read_address("10.0.0.1:32768"), Ok(("10.0.0.1", 32768)));
        assert_eq!(
            read_address("host-1.example:80"),
            Ok(("host-1.example", 80))
        );
        assert_eq!(read_address("[fd00::1]:80"), Ok(("fd00::1", 80)));
        for (text, why) in [
            ("10.0.0.1", "`10.0.0.1` has no port: write `host:port`"),
            ("10.0.0.1:", "`` is no port number"),
            ("10.0.0.1:0", "`0` is no port: ports are from 1 to 65535"),
            (":80", "`` is neither an IP address nor a host name"),
            ("", "`` has no port: write `host:port`"),
            ("fd00::1", "`fd00::1` has no port: write `host:port`"),
            (
                "fd00::1:80:x",
                "`fd00::1:80:x` has an IPv6 address without brackets",
            ),
            ("[fd00::1]", "`[fd00::1]` has no port: write `host:port`"),
            ("[fd00::1", "`[fd00::1` has no closing bracket"),
            ("[10.0.0.1]:80", "`10.0.0.1` is no IPv6 address"),
            ("...:80", "`...` is neither an IP address nor a host name"),
            ("a b:80", "`a b` is neither an IP address nor a host name"),
            (
                "10.0.0.1\nserver x:80",
                "`10.0.0.1\\nserver x` is neither an IP address nor a host name",
            ),
        ] {
            assert_eq!(read_address(text), Err(why.to_owned()));
        }
        let long = format!("{}:80", "x".repeat(10_240));
        let why = read_address(&long).unwrap_err();
        assert!(why.len() < 200 && why.contains("…"), "{why}");
    }
}
