//! What every source demands of a value, however it is written and whatever is said if it is not met.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::IpNet;

/// Shortest and longest idle time that a flow may have.
pub(super) const FLOW_TTLS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Shortest and longest time that a client may stay with its backend: Kubernetes' own limits.
pub(super) const AFFINITY_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(24);

/// Shortest prefix that pods may get their addresses from.
const MIN_POD_PREFIX: u8 = 8;

/// What `address` is, if it is none that one node, pod or service can have.
pub(super) fn unfit(address: IpAddr) -> Option<&'static str> {
    match address {
        address if address.is_unspecified() => Some("the unspecified address"),
        address if address.is_loopback() => Some("a loopback address"),
        address if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address"),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            Some("an IPv4 address in IPv6's clothes")
        }
        _ => None,
    }
}

/// Whether pods can get their addresses from `cidr`.
pub(super) fn is_for_pods(cidr: &IpNet) -> bool {
    cidr.prefix_len() >= MIN_POD_PREFIX && unfit(cidr.network()).is_none()
}
