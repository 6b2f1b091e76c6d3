//! What the control plane wants: services, peers and the node itself, in the field's own nouns.
//!
//! Sources (a file, Kubernetes) produce it; [`crate::Dataplane::apply`] makes it so. Nothing here knows maps.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use beeline_abi::{Mac, Vni};
use ipnet::IpNet;

/// Idle time to live of a flow when the service names none (the seed's `Flow TTL: 240`).
pub const DEFAULT_FLOW_TTL: Duration = Duration::from_mins(4);

/// How long a client stays with its backend after its last packet when the service does not say: Kubernetes' three hours.
pub const DEFAULT_AFFINITY_TIMEOUT: Duration = Duration::from_hours(3);

/// Transport protocol of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// From an IP protocol number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(format!("unknown protocol `{text}`: expected tcp, udp or sctp")),
        }
    }
}

/// Where clients find a service: VIP, port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// Virtual address.
    pub vip: IpAddr,
    /// Virtual port.
    pub port: NonZeroU16,
    /// Protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = std::net::SocketAddr::new(self.vip, self.port.get());
        write!(f, "{socket}/{}", self.protocol)
    }
}

/// Who answers: a pod's address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: NonZeroU16,
    /// Which flows go to it.
    pub state: BackendState,
}

/// Which flows go to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum BackendState {
    /// New ones, and those it has.
    #[default]
    Ready,
    /// Only those it has: it is about to end, or new ones are for others (a closer one, one on this node).
    Draining,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.port.get()).fmt(f)
    }
}

/// Whether a client stays with its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Affinity {
    /// Each connection is balanced for itself.
    #[default]
    None,
    /// One client address gets the same backend, until it has sent nothing for `timeout`.
    ClientIp {
        /// Idle time after which another backend may be chosen.
        timeout: Duration,
    },
}

/// What becomes of requests when no backend is there to take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WithoutBackends {
    /// The client is told at once: RST, or port unreachable.
    #[default]
    Reject,
    /// Silence: somebody else may answer for this address.
    Drop,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name, unique among services.
    pub name: String,
    /// Where it is found, at addresses that are nothing but VIPs: no other port of them leads anywhere.
    pub frontends: Vec<Frontend>,
    /// Where it is found besides, at addresses that others use too: nodes' own (node ports) and external ones.
    pub shared: Vec<Frontend>,
    /// Where it is found besides, at load balancers' addresses: for clients in its source ranges.
    pub load_balancers: Vec<Frontend>,
    /// Who may begin anything at `load_balancers`. Each family is for itself: without a range of it, everybody of it may.
    pub source_ranges: Vec<IpNet>,
    /// Who answers.
    pub backends: Vec<Backend>,
    /// What becomes of requests when no backend is ready.
    pub without_backends: WithoutBackends,
    /// Whether a client stays with its backend.
    pub affinity: Affinity,
    /// Idle time after which a flow is forgotten.
    pub flow_ttl: Duration,
    /// True: balanced at the client's port, replies straight back. False: left to the host (kube-proxy).
    pub dsr: bool,
}

impl Service {
    /// Everywhere it is found.
    pub fn all_frontends(&self) -> impl Iterator<Item = &Frontend> {
        self.frontends.iter().chain(&self.shared).chain(&self.load_balancers)
    }
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its underlay address.
    pub vtep: Ipv4Addr,
    /// The underlay's next hop towards it; `None` lets the kernel look it up for each packet.
    pub next_hop: Option<Ipv4Addr>,
    /// The pod prefixes it holds.
    pub pod_cidrs: Vec<IpNet>,
    /// The inner destination MAC it wants to see, if it is a plain VTEP and not a Beeline node.
    pub mac: Option<Mac>,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// VNI of the pod network.
    pub vni: Vni,
    /// This node's underlay address.
    pub vtep: Ipv4Addr,
    /// Device that carries the underlay.
    pub uplink_ifindex: u32,
    /// The host's own device (`beeline0`), on which it receives what is for it.
    pub host_ifindex: u32,
    /// The host's own port, the other end of that veth pair.
    pub host_port_ifindex: u32,
    /// MAC of the host's own device.
    pub host_mac: Mac,
    /// UDP port of VXLAN.
    pub vxlan_port: NonZeroU16,
    /// Bytes of the largest IP packet that the overlay carries.
    pub overlay_mtu: u32,
    /// Addresses that are this node itself.
    pub addresses: Vec<IpAddr>,
    /// Its addresses in the overlay, one a family: what pods see as the router.
    pub gateways: Vec<IpAddr>,
}

/// All that the dataplane of one node is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// This node.
    pub host: Host,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// The services. Shared, since there may be 10,000s of them, and hardly one changes at a time.
    pub services: Vec<Arc<Service>>,
}
