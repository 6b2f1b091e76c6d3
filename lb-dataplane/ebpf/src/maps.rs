//! The maps. Their keys and values, and who writes them, are in `beeline-abi`.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie},
    macros::btf_map,
};
use beeline_abi::{
    Address, Affinity, AffinityKey, Backend, Drop, Endpoint, EndpointKey, Flow, FlowKey, FragmentKey,
    FragmentPorts, FrontendKey, Hop, Inet4, Inet6, MaglevKey, MaglevPiece, Node, Peer, Route, RouteKey,
    Service, ServiceName, ServiceStats, SourceRange, SourceRangeKey, Vni, capacity,
};

use crate::family::Packet;

/// As much of a packet as an ICMP error tells its sender again.
#[repr(C, align(8))]
pub struct Quote(pub [u8; 512]);

impl Quote {
    /// Bytes of it at most; with headers less than any host must take (RFC 791: 576).
    pub const LEN: u32 = 508;
    /// Keeps whole words, and lets the verifier see that it is no more.
    pub const MASK: u32 = 0x1fc;
}

/// A place for what is quoted; this CPU's own.
#[inline(always)]
pub fn quote() -> Option<&'static mut Quote> {
    let pointer = QUOTE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own entry; programs on one CPU do not interrupt each other, and one packet takes it once.
    Some(unsafe { &mut *pointer })
}

/// What an ICMP error quotes, while that is made.
#[btf_map]
pub static QUOTE: PerCpuArray<Quote, 1> = PerCpuArray::new();

/// The node and its VNI, once the agent has set them.
#[inline(always)]
pub fn node() -> Result<(&'static Node, Vni), Drop> {
    let node = NODE.get(0).ok_or(Drop::NotReady)?;
    let vni = Vni::new(node.vni).ok_or(Drop::NotReady)?;
    if node.host_ifindex == 0 { Err(Drop::NotReady) } else { Ok((node, vni)) }
}

/// True if `vtep` (network byte order) is a node that may send us VXLAN.
#[inline(always)]
pub fn is_peer(vtep: u32) -> bool {
    // SAFETY: only whether there is an entry matters.
    unsafe { PEERS.get(vtep) }.is_some()
}

/// What the programs must know of the node.
#[btf_map]
pub static NODE: Array<Node, 1> = Array::new();

/// Changes whenever a destination may have moved; flows resolved under another value resolve anew.
#[btf_map]
pub static EPOCH: Array<u64, 1> = Array::new();

/// Maglev tables, in pieces.
#[btf_map]
pub static MAGLEV: HashMap<MaglevKey, MaglevPiece, { capacity::MAGLEV }, NO_PREALLOC> = HashMap::new();

/// Nodes that may send us VXLAN, by underlay address.
#[btf_map]
pub static PEERS: HashMap<u32, Peer, { capacity::PEERS }, NO_PREALLOC> = HashMap::new();

/// What each service did.
#[btf_map]
pub static SERVICE_STATS: PerCpuArray<ServiceStats, { capacity::SERVICES }> = PerCpuArray::new();

/// Names of the services; for people, not for programs.
#[btf_map]
pub static SERVICE_NAMES: HashMap<u32, ServiceName, { capacity::SERVICES }, NO_PREALLOC> = HashMap::new();

/// Packets dropped, by reason.
#[btf_map]
pub static DROPS: PerCpuArray<u64, { Drop::COUNT }> = PerCpuArray::new();

/// Packets that went on, by way.
#[btf_map]
pub static HOPS: PerCpuArray<u64, { Hop::COUNT }> = PerCpuArray::new();

/// `BPF_NOEXIST`: only if there is none yet.
const NO_EXIST: u64 = 1;

/// `BPF_F_NO_PREALLOC`: tables that user space fills take memory as they grow.
const NO_PREALLOC: usize = 1;

/// What one packet's walk has in hand. The stack has no room for it.
#[repr(C)]
pub struct Scratch<A: Address> {
    /// The packet.
    pub packet: Packet<A>,
    /// What the packet's flow says, as found or as decided.
    pub flow: Flow<A>,
    /// What it said before, if it has to be decided anew.
    pub known: Flow<A>,
    /// The half for its replies, while that is made, and its name.
    pub reply: Flow<A>,
    pub reply_key: FlowKey<A>,
    /// A [`State`](crate::flow::State).
    pub state: u32,
    /// What the request is called on the wire.
    pub wire_key: FlowKey<A>,
}

/// The tables of one address family.
pub trait Tables: Address {
    /// A place for what one packet's walk finds out; this CPU's own, until the program ends. Take it once a step.
    fn scratch() -> Result<&'static mut Scratch<Self>, Drop>;
    fn find_flow(key: &FlowKey<Self>) -> Option<*mut Flow<Self>>;
    fn keep_flow(key: &FlowKey<Self>, flow: &Flow<Self>) -> Result<(), Drop>;
    fn forget_flow(key: &FlowKey<Self>);
    fn find_fragments(key: &FragmentKey<Self>) -> Option<FragmentPorts>;
    fn keep_fragments(key: &FragmentKey<Self>, ports: &FragmentPorts);
    fn find_endpoint(key: &EndpointKey<Self>) -> Option<Endpoint>;
    fn find_route(key: RouteKey<Self>) -> Option<Route>;
    fn find_frontend(key: &FrontendKey<Self>) -> Option<Service>;
    /// Whether `client` is in one of the source ranges of `service`.
    fn is_in_source_range(service: u32, client: Self) -> bool;
    fn find_backend(id: u32) -> Option<Backend<Self>>;
    fn find_affinity(key: &AffinityKey<Self>) -> Option<Affinity>;
    fn keep_affinity(key: &AffinityKey<Self>, affinity: &Affinity);
    /// False if there is one already.
    fn begin_affinity(key: &AffinityKey<Self>, affinity: &Affinity) -> bool;
}

/// Makes the tables of the family of address `$addr`.
macro_rules! tables {
    ($addr:ty: $flows:ident, $fragments:ident, $frontends:ident, $source_ranges:ident, $backends:ident, $endpoints:ident, $routes:ident, $affinity:ident, $scratch:ident) => {
        /// Flows.
        #[btf_map]
        pub static $flows: LruHashMap<FlowKey<$addr>, Flow<$addr>, { capacity::FLOWS }> = LruHashMap::new();

        /// Datagrams in fragments.
        #[btf_map]
        pub static $fragments: LruHashMap<FragmentKey<$addr>, FragmentPorts, { capacity::FRAGMENTS }> =
            LruHashMap::new();

        /// Frontends.
        #[btf_map]
        pub static $frontends: HashMap<FrontendKey<$addr>, Service, { capacity::FRONTENDS }, NO_PREALLOC> =
            HashMap::new();

        /// Who may ask services where they are not open to all.
        #[btf_map]
        pub static $source_ranges: LpmTrie<SourceRangeKey<$addr>, SourceRange, { capacity::SOURCE_RANGES }> =
            LpmTrie::new();

        /// Backends by id.
        #[btf_map]
        pub static $backends: HashMap<u32, Backend<$addr>, { capacity::BACKENDS }, NO_PREALLOC> =
            HashMap::new();

        /// Endpoints of this node.
        #[btf_map]
        pub static $endpoints: HashMap<EndpointKey<$addr>, Endpoint, { capacity::ENDPOINTS }, NO_PREALLOC> =
            HashMap::new();

        /// Pod prefixes of other nodes.
        #[btf_map]
        pub static $routes: LpmTrie<RouteKey<$addr>, Route, { capacity::ROUTES }> = LpmTrie::new();

        /// Which backend clients had last.
        #[btf_map]
        pub static $affinity: LruHashMap<AffinityKey<$addr>, Affinity, { capacity::AFFINITY }> =
            LruHashMap::new();

        /// What is in hand.
        #[btf_map]
        pub static $scratch: PerCpuArray<Scratch<$addr>, 1> = PerCpuArray::new();

        impl Tables for $addr {
            #[inline(always)]
            fn scratch() -> Result<&'static mut Scratch<Self>, Drop> {
                let pointer = $scratch.get_ptr_mut(0).ok_or(Drop::NotReady)?;
                // SAFETY: this CPU's own entry; programs on one CPU do not interrupt each other, and each step takes it
                // once; every bit pattern is a value.
                Ok(unsafe { &mut *pointer })
            }

            #[inline(always)]
            fn find_flow(key: &FlowKey<Self>) -> Option<*mut Flow<Self>> {
                $flows.get_ptr_mut(key)
            }

            #[inline(always)]
            fn keep_flow(key: &FlowKey<Self>, flow: &Flow<Self>) -> Result<(), Drop> {
                $flows.insert(key, flow, 0).map_err(|_| Drop::FlowTableFull)
            }

            #[inline(always)]
            fn forget_flow(key: &FlowKey<Self>) {
                // It may be gone already.
                let _ = $flows.remove(key);
            }

            #[inline(always)]
            fn find_fragments(key: &FragmentKey<Self>) -> Option<FragmentPorts> {
                // SAFETY: a copy is taken at once; every bit pattern is a value.
                unsafe { $fragments.get(key).copied() }
            }

            #[inline(always)]
            fn keep_fragments(key: &FragmentKey<Self>, ports: &FragmentPorts) {
                // Without an entry the later fragments are dropped, and counted then.
                let _ = $fragments.insert(key, ports, 0);
            }

            #[inline(always)]
            fn find_endpoint(key: &EndpointKey<Self>) -> Option<Endpoint> {
                // SAFETY: a copy is taken at once; user space replaces whole entries.
                unsafe { $endpoints.get(key).copied() }
            }

            #[inline(always)]
            fn find_route(key: RouteKey<Self>) -> Option<Route> {
                let bits = RouteKey::<Self>::VNI_BITS + Self::BITS;
                $routes.get(&lpm_trie::Key::new(bits, key)).copied()
            }

            #[inline(always)]
            fn find_frontend(key: &FrontendKey<Self>) -> Option<Service> {
                // SAFETY: as in `find_endpoint`.
                unsafe { $frontends.get(key).copied() }
            }

            #[inline(always)]
            fn is_in_source_range(service: u32, addr: Self) -> bool {
                let bits = SourceRangeKey::<Self>::SERVICE_BITS + Self::BITS;
                $source_ranges.get(&lpm_trie::Key::new(bits, SourceRangeKey { service, addr })).is_some()
            }

            #[inline(always)]
            fn find_backend(id: u32) -> Option<Backend<Self>> {
                // SAFETY: as in `find_endpoint`.
                unsafe { $backends.get(id).copied() }
            }

            #[inline(always)]
            fn find_affinity(key: &AffinityKey<Self>) -> Option<Affinity> {
                // SAFETY: a copy is taken at once; what it says is checked.
                unsafe { $affinity.get(key).copied() }
            }

            #[inline(always)]
            fn begin_affinity(key: &AffinityKey<Self>, affinity: &Affinity) -> bool {
                $affinity.insert(key, affinity, NO_EXIST).is_ok()
            }

            #[inline(always)]
            fn keep_affinity(key: &AffinityKey<Self>, affinity: &Affinity) {
                // What cannot be kept will be chosen again.
                let _ = $affinity.insert(key, affinity, 0);
            }
        }
    };
}

tables!(Inet4: FLOWS4, FRAGMENTS4, FRONTENDS4, SOURCE_RANGES4, BACKENDS4, ENDPOINTS4, ROUTES4, AFFINITY4, SCRATCH4);
tables!(Inet6: FLOWS6, FRAGMENTS6, FRONTENDS6, SOURCE_RANGES6, BACKENDS6, ENDPOINTS6, ROUTES6, AFFINITY6, SCRATCH6);
