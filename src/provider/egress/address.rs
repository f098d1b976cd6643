//! Which addresses may be called: global unicast ones, less everything that is special.
//!
//! The table follows the special-purpose registries of IANA (RFC 6890) and adds what clouds hide
//! behind addresses that look public. Not here: names and URLs (`destination`).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

/// Special ranges, each with what it is. Where two overlap the first one names it.
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by carriers"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "a cloud's own"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "for protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "for protocols"),
    ("192.52.193.0/24", "for protocols"),
    ("192.88.99.0/24", "6to4"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "for protocols"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "IPv4 in IPv6"),
    ("::/96", "unspecified"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("100::/64", "discarded"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "for protocols"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "for protocols"),
    ("3fff::/20", "for documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
];

static RANGES: LazyLock<Vec<(IpNet, &str)>> = LazyLock::new(|| {
    let parsed = SPECIAL.iter().map(|(range, what)| range.parse().map(|range| (range, *what)));
    parsed.filter_map(Result::ok).collect()
});

/// What is special about an address; `None` for one that anybody may have.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    let within = RANGES.iter().find(|(range, _)| range.contains(&address));
    within.map(|(_, what)| *what).or_else(|| match address {
        IpAddr::V4(_) => None,
        // Of IPv6 only this has been given out.
        IpAddr::V6(address) if is_global_unicast(address) => None,
        IpAddr::V6(_) => Some("reserved"),
    })
}

fn is_global_unicast(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x2000..=0x3fff, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_the_table_is_one() {
        assert_eq!(RANGES.len(), SPECIAL.len());
        for (range, what) in RANGES.iter() {
            assert!(special(range.network()).is_some(), "{range} {what}");
            assert!(special(range.broadcast()).is_some(), "{range} {what}");
        }
    }
}
