//! The addresses that tests use, for each family alike: every story is told twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use beeline_abi::{Address, Inet4, Inet6};
use lb_dataplane::Mac;

use crate::world::{NODE, PEER, PLAIN};

/// The addresses of one family.
#[derive(Debug)]
pub struct Net {
    /// For names of tests.
    pub name: &'static str,
    pub gateway: IpAddr,
    /// Stands for this node's own processes where a service leads them back to the host.
    pub loopback: IpAddr,
    /// On this node, on port A.
    pub pod_a: IpAddr,
    /// On this node, on port B.
    pub pod_b: IpAddr,
    /// On the peer.
    pub pod_c: IpAddr,
    /// Behind the plain VTEP.
    pub pod_d: IpAddr,
    pub outside: IpAddr,
    /// The first of ten virtual addresses.
    vip: IpAddr,
    /// Pod prefixes of the peer and of the plain VTEP.
    pub peer_cidr: &'static str,
    pub plain_cidr: &'static str,
    /// This node's underlay address, the peer's and the plain VTEP's, as far as they are of this family.
    pub underlay: &'static [IpAddr],
}

/// A dual-stack node's two.
pub const NETS: [&Net; 2] = [&IPV4, &IPV6];

pub static IPV4: Net = Net {
    name: "ipv4",
    gateway: v4(10, 244, 1, 1),
    loopback: v4(10, 244, 1, 0),
    pod_a: v4(10, 244, 1, 5),
    pod_b: v4(10, 244, 1, 6),
    pod_c: v4(10, 244, 2, 7),
    pod_d: v4(10, 244, 9, 7),
    outside: v4(203, 0, 113, 8),
    vip: v4(10, 96, 0, 10),
    peer_cidr: "10.244.2.0/24",
    plain_cidr: "10.244.9.0/24",
    underlay: &[IpAddr::V4(NODE), IpAddr::V4(PEER), IpAddr::V4(PLAIN)],
};

pub static IPV6: Net = Net {
    name: "ipv6",
    gateway: v6(1, 1),
    loopback: v6(1, 0),
    pod_a: v6(1, 5),
    pod_b: v6(1, 6),
    pod_c: v6(2, 7),
    pod_d: v6(9, 7),
    outside: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8)),
    vip: v6(96, 10),
    peer_cidr: "fd00:244:0:2::/64",
    plain_cidr: "fd00:244:0:9::/64",
    underlay: &[],
};

impl Net {
    /// The `n`th virtual address.
    pub fn vip(&self, n: u8) -> IpAddr {
        add(self.vip, n)
    }

    /// The `n`th pod of the peer.
    pub fn far(&self, n: u8) -> IpAddr {
        match self.pod_c {
            IpAddr::V4(_) => v4(10, 244, 2, n),
            IpAddr::V6(_) => v6(2, n.into()),
        }
    }

    /// An address of this node that no pod has.
    pub fn unused(&self) -> IpAddr {
        add(self.pod_b, 70)
    }
}

fn add(address: IpAddr, n: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + u32::from(n)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + u128::from(n)).into(),
    }
}

/// The family that `address` is of.
pub fn net_of(address: IpAddr) -> &'static Net {
    if address.is_ipv4() { &IPV4 } else { &IPV6 }
}

/// The MAC that Beeline derives for an address.
pub fn mac(address: IpAddr) -> Mac {
    match address {
        IpAddr::V4(v4) => Inet4::from(v4).mac(),
        IpAddr::V6(v6) => Inet6::from(v6).mac(),
    }
}

/// The MAC of the host's own device, which has the gateways of both families.
pub fn host_mac() -> Mac {
    mac(IPV4.gateway)
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(subnet: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x244, 0, subnet, 0, 0, 0, host))
}
