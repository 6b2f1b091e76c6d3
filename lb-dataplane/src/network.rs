//! What is the same on all links of the pod network, on every node.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The next hop of all that a pod sends, and of what the host sends to pods. Link-local (RFC 3927); every port
/// answers for it with [`Mac::GATEWAY`](crate::Mac::GATEWAY), so that nobody ever has to ask.
pub const LINK_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The same for IPv6 (RFC 4291 §2.5.6).
pub const LINK_GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Bytes that encapsulation over IPv4 adds to a packet (RFC 7348 §5): Ethernet 14, VXLAN 8, UDP 8, IPv4 20. The
/// MTU of pods is the underlay's less this.
pub const VXLAN_OVERHEAD: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Inet4, Mac};

    #[test]
    fn the_gateways_mac_follows_from_its_address() {
        assert_eq!(Inet4::from(LINK_GATEWAY).mac(), Mac::GATEWAY);
    }
}
