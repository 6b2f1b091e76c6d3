//! Keys and values of every eBPF map: the one contract of kernel and user space.
//!
//! Layouts only: no logic that a packet takes (that is `ebpf`) and no map handles (that is `lb-dataplane`).
//! Every type is `#[repr(C)]`, has no implicit padding, and has its size asserted beside it. Addresses and
//! ports are kept as they are on the wire; everything else is in the machine's own byte order.

#![cfg_attr(not(feature = "user"), no_std)]
#![allow(clippy::inline_always, reason = "eBPF calls cost stack and registers that the verifier rations")]

mod address;
mod counters;
mod endpoint;
mod flow;
mod fragment;
mod hash;
mod node;
mod route;
mod service;

pub use address::{Address, Be16, Inet4, Inet6, Mac, Vni, add_checksums};
pub use counters::{Drop, Hop, ServiceStats};
pub use endpoint::{Endpoint, EndpointKey, EndpointKind};
pub use flow::{Action, Flow, FlowKey, Rewrite, TcpState};
pub use fragment::{FragmentKey, FragmentPorts};
pub use hash::{flow_hash, source_port};
pub use node::Node;
pub use route::{Peer, Route, RouteKey};
pub use service::{
    Affinity, AffinityKey, Backend, FrontendKey, MaglevKey, MaglevPiece, Service, ServiceName, SourceRange,
    SourceRangeKey, maglev_size,
};

/// Version of all layouts in this crate together. It is part of [`Node`]; whoever opens pinned maps
/// compares it first and refuses a foreign one.
pub const VERSION: u32 = 5;

/// Idle time to live of a flow that no service has a say in, in milliseconds.
pub const DEFAULT_FLOW_TTL_MS: u32 = 240_000;

/// Capacities of the maps, in entries.
pub mod capacity {
    /// Flow entries a family; one connection takes two.
    pub const FLOWS: usize = 262_144;
    /// Datagrams of which fragments are under way, a family.
    pub const FRAGMENTS: usize = 16_384;
    /// Frontends (VIP + port + protocol) a family.
    pub const FRONTENDS: usize = 65_536;
    /// Services, and so the largest service id plus one.
    pub const SERVICES: usize = 32_768;
    /// Backends a family, over all services.
    pub const BACKENDS: usize = 262_144;
    /// Source ranges a family, over all services.
    pub const SOURCE_RANGES: usize = 65_536;
    /// Pieces of Maglev tables: 65,536 tables of up to ten backends, or 1,024 of the largest.
    pub const MAGLEV: usize = 262_144;
    /// Clients a family whose backend is remembered, over all services; of more, those not heard of for longest are forgotten.
    pub const AFFINITY: usize = 65_536;
    /// Local endpoints a family.
    pub const ENDPOINTS: usize = 4_096;
    /// Remote pod prefixes a family.
    pub const ROUTES: usize = 16_384;
    /// Other nodes.
    pub const PEERS: usize = 8_192;
}

/// Implements `aya::Pod` for types that are plain bytes: those with addresses of either family in them, and others.
#[cfg(feature = "user")]
macro_rules! plain_bytes {
    (of addresses: $($generic:ident),+; others: $($plain:ty),+) => {
        // SAFETY of all: `#[repr(C)]` integers and byte arrays without implicit padding, for the addresses of
        // either family (sizes are asserted in the type's own module); every bit pattern is valid, since
        // enumerations are stored as bytes.
        $(
            // SAFETY: as above.
            unsafe impl<A: Address> aya::Pod for $generic<A> {}
        )+
        $(
            // SAFETY: as above.
            unsafe impl aya::Pod for $plain {}
        )+
    };
}
#[cfg(feature = "user")]
plain_bytes!(
    of addresses: EndpointKey, FlowKey, Flow, RouteKey, FrontendKey, Backend, AffinityKey, SourceRangeKey;
    others: Affinity, Endpoint, Node, Peer, Route, MaglevKey, MaglevPiece, Service, ServiceName, ServiceStats, SourceRange
);
