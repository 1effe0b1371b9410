//! The version of an `HAProxy`, and what it allows.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    /// 0 for a development version.
    pub patch: u32,
}

impl Version {
    /// `add server` with health checks is complete since 2.6.
    pub fn can_add_servers(self) -> bool {
        (self.major, self.minor) >= (2, 6)
    }

    /// Below 3.0, `del server` may crash the worker (haproxy/haproxy#2298), and the master then ends.
    pub fn can_delete_servers(self) -> bool {
        (self.major, self.minor) >= (3, 0)
    }

    /// From the answer to `show info`.
    pub(super) fn of_info(info: &str) -> Option<Self> {
        let version = info.lines().find_map(|line| line.strip_prefix("Version:"));
        Self::parse(version?.trim())
    }

    /// Such as `2.6.12-1+deb12u4` or `3.5-dev5`.
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let mut parts = text[..end.unwrap_or(text.len())].split('.');
        let version = Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
            patch: parts.next().map_or(Some(0), |patch| patch.parse().ok())?,
        };
        Some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_with_what_packagers_append() {
        for (text, parsed) in [
            ("2.6.12-1+deb12u4", Some((2, 6, 12))),
            ("2.8.25-5cf5d0683", Some((2, 8, 25))),
            ("3.5-dev5-50872da", Some((3, 5, 0))),
            ("10.11", Some((10, 11, 0))),
            ("dev", None),
            ("3", None),
            ("3..1", None),
        ] {
            let found = Version::parse(text).map(|it| (it.major, it.minor, it.patch));
            assert_eq!(found, parsed, "{text}");
        }
    }

    #[test]
    fn abilities_begin_with_a_version() {
        let of = |text| Version::parse(text).unwrap();
        assert!(!of("2.5.14").can_add_servers() && of("2.6.0").can_add_servers());
        assert!(!of("2.8.25").can_delete_servers() && of("3.0.0").can_delete_servers());
    }
}
