//! The neutral model: what every source produces and the reconciler makes real.
//!
//! It knows neither YAML nor Kubernetes, and nothing of this machine's devices: those facts join it in
//! [`crate::reconcile`], which turns it into an [`lb_dataplane::desired::Desired`].

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    sync::Arc,
};

use ipnet::IpNet;
use lb_dataplane::{
    Address, AttachMode, Inet4, Inet6, Mac, Vni,
    desired::{Frontend, Service},
};

/// VNI of the pod network if a source names none.
pub(crate) const DEFAULT_VNI: Vni = Vni::new(1).unwrap();

/// UDP port of VXLAN that IANA assigned: the one used if a source names none.
pub(crate) const VXLAN_PORT: NonZeroU16 = NonZeroU16::new(4789).unwrap();

/// The pod network as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// VNI of the pod network.
    pub(crate) vni: Vni,
    /// UDP port of VXLAN.
    pub(crate) vxlan_port: NonZeroU16,
    /// Device that carries the underlay; `None` for the one that holds this node's address.
    pub(crate) uplink: Option<String>,
    /// How programs are to be attached.
    pub(crate) attach: AttachMode,
    /// This node.
    pub(crate) node: Node,
    /// The other nodes.
    pub(crate) peers: Vec<Node>,
    /// The services.
    pub(crate) services: Vec<Arc<Service>>,
}

impl Network {
    /// The node ports that the host hands to the balancer: frontends at [`NodePorts`], in order.
    pub(crate) fn node_ports(&self) -> Vec<Frontend> {
        let balanced = self.services.iter().filter(|service| service.dsr);
        let mut ports: Vec<_> = balanced
            .flat_map(|service| service.shared.iter().copied())
            .filter(|frontend| NodePorts::like(frontend.vip).are_at(frontend.vip))
            .collect();
        ports.sort_unstable();
        ports
    }
}

/// Stand-ins for this node's own address at its node ports, for packets that meet the host's stack before a port of ours.
/// They mean nothing beyond this node: link-local, or, as IPv6's link-local addresses belong to a device, of a prefix of
/// Beeline's own (RFC 4193).
#[derive(Debug)]
pub(crate) struct NodePorts {
    /// Answered by any endpoint that a client on this node may ask. The host masquerades what is sent there.
    pub(crate) inside: IpAddr,
    /// Answered by endpoints on this node alone, which see the client's own address.
    pub(crate) outside: IpAddr,
}

impl NodePorts {
    /// Of IPv4.
    pub(crate) const V4: Self = Self {
        inside: IpAddr::V4(Ipv4Addr::new(169, 254, 1, 2)),
        outside: IpAddr::V4(Ipv4Addr::new(169, 254, 1, 3)),
    };
    /// Of IPv6.
    pub(crate) const V6: Self = Self {
        inside: IpAddr::V6(Ipv6Addr::new(0xfd62, 0x6565, 0x6c69, 0x6e65, 0, 0, 0, 2)),
        outside: IpAddr::V6(Ipv6Addr::new(0xfd62, 0x6565, 0x6c69, 0x6e65, 0, 0, 0, 3)),
    };

    /// Of either family.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Those of the family of `address`.
    pub(crate) const fn like(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn are_at(&self, address: IpAddr) -> bool {
        [self.inside, self.outside].contains(&address)
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Name, unique among nodes.
    pub(crate) name: String,
    /// Underlay address: its VTEP.
    pub(crate) address: Ipv4Addr,
    /// Prefixes its pods get their addresses from: at least one, overlapping no other.
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// The inner destination MAC it wants to see, if it is a plain VTEP and not a Beeline node.
    pub(crate) vtep_mac: Option<Mac>,
}

impl Node {
    /// Its own address in each pod prefix, which no pod gets: the one after the prefix's own.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.pod_cidrs.iter().filter(|cidr| has_room(cidr)).map(|cidr| match cidr {
            // With bits to spare, the prefix's own address is even: nothing overflows.
            IpNet::V4(cidr) => Ipv4Addr::from_bits(cidr.network().to_bits() | 1).into(),
            IpNet::V6(cidr) => Ipv6Addr::from_bits(cidr.network().to_bits() | 1).into(),
        })
    }

    /// Its own address in the first pod prefix of the family of `other`, if it has one.
    pub(crate) fn gateway_like(&self, other: IpAddr) -> Option<IpAddr> {
        self.gateways().find(|gateway| gateway.is_ipv4() == other.is_ipv4())
    }

    /// What stands for its own processes where a service leads them back to its stack: the address before its own in its
    /// IPv4 pod prefix, as the programs derive it.
    pub(crate) fn service_loopback(&self) -> Option<Ipv4Addr> {
        self.pod_cidrs.iter().filter(|cidr| has_room(cidr)).find_map(|cidr| match cidr {
            IpNet::V4(cidr) => Some(cidr.network()),
            IpNet::V6(_) => None,
        })
    }

    /// Its first IPv6 pod prefix, if it has one.
    pub(crate) fn ipv6(&self) -> Option<IpNet> {
        self.pod_cidrs.iter().copied().find(|cidr| cidr.addr().is_ipv6())
    }
}

/// Whether a pod prefix has room for a gateway and a pod: IPv4 sets its first and last address apart, IPv6 its first.
pub(crate) fn has_room(cidr: &IpNet) -> bool {
    cidr.max_prefix_len() - cidr.prefix_len() >= 2
}

/// The MAC of whoever has these addresses on the pod network, a pod or the node itself: one for both families, by
/// IPv4 if there is any.
pub(crate) fn derived_mac(addresses: &[IpAddr]) -> Option<Mac> {
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first())?;
    Some(match *first {
        IpAddr::V4(address) => Inet4::from(address).mac(),
        IpAddr::V6(address) => Inet6::from(address).mac(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{net::IpAddr, time::Duration};

    use lb_dataplane::desired::{Affinity, Frontend, Protocol, WithoutBackends};

    use super::*;

    fn node(name: &str, address: [u8; 4], pod_cidr: &str) -> Node {
        Node {
            name: name.into(),
            address: address.into(),
            pod_cidrs: vec![pod_cidr.parse().unwrap()],
            vtep_mac: None,
        }
    }

    fn service(name: &str, vip: [u8; 4], dsr: bool) -> Arc<Service> {
        Arc::new(Service {
            name: name.into(),
            frontends: vec![Frontend {
                vip: IpAddr::from(vip),
                port: NonZeroU16::MIN,
                protocol: Protocol::Tcp,
            }],
            shared: vec![],
            load_balancers: vec![],
            source_ranges: vec![],
            backends: vec![],
            without_backends: WithoutBackends::default(),
            affinity: Affinity::None,
            flow_ttl: Duration::from_secs(1),
            dsr,
        })
    }

    /// The same for both families.
    pub(crate) fn dual_stack() -> Network {
        let mut network = network();
        network.node.pod_cidrs.push("fd00:10:244:1::/64".parse().unwrap());
        network.peers[0].pod_cidrs.push("fd00:10:244:2::/64".parse().unwrap());
        network
    }

    /// Two nodes, one service that is balanced and one that is left to the host.
    pub(crate) fn network() -> Network {
        Network {
            vni: DEFAULT_VNI,
            vxlan_port: VXLAN_PORT,
            uplink: None,
            attach: AttachMode::Auto,
            node: node("node1", [192, 168, 77, 1], "10.244.1.0/24"),
            peers: vec![node("node2", [192, 168, 77, 2], "10.244.2.0/24")],
            services: vec![service("a", [10, 96, 0, 10], true), service("b", [10, 96, 0, 11], false)],
        }
    }

    #[test]
    fn the_gateway_is_the_first_host_address_of_each_prefix() {
        let mut node = node("n", [192, 168, 77, 1], "10.244.1.0/24");
        for cidr in ["10.9.0.128/30", "10.9.0.4/31", "fd00:1::/64"] {
            node.pod_cidrs.push(cidr.parse().unwrap());
        }
        let gateways: Vec<_> = node.gateways().map(|gateway| gateway.to_string()).collect();
        assert_eq!(gateways, ["10.244.1.1", "10.9.0.129", "fd00:1::1"]);
        assert_eq!(node.gateway_like("::".parse().unwrap()), Some("fd00:1::1".parse().unwrap()));
    }

    #[test]
    fn one_mac_goes_with_both_families() {
        let [v4, v6]: [IpAddr; 2] = ["10.244.1.5", "fd00:1::5"].map(|address| address.parse().unwrap());
        assert_eq!(derived_mac(&[v6, v4]), Some(Mac([0x0a, 0x58, 10, 244, 1, 5])));
        assert_eq!(derived_mac(&[v4, v6]), derived_mac(&[v4]));
        assert_ne!(derived_mac(&[v6]), derived_mac(&[v4]));
        assert_eq!(derived_mac(&[]), None);
    }
}
