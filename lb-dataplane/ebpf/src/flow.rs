//! The flow table: finds what was decided, says whether it still holds, and begins what is decided anew.

use beeline_abi::{
    Action, Address, DEFAULT_FLOW_TTL_MS, EndpointKey, Flow, FlowKey, Mac, Rewrite, TcpState, Vni,
};

use crate::{
    family::{Family, Packet, TCP, tcp_flags},
    maps::{self, EPOCH, Tables},
    skb::{Skb, now},
};

/// A flow's time stamp is refreshed no more often than this, in nanoseconds: writing it is not free.
const TOUCH_INTERVAL: u64 = 1_000_000_000;
const NANOSECONDS_A_MILLISECOND: u64 = 1_000_000;

/// Current value of the epoch.
#[inline(always)]
pub fn epoch() -> u64 {
    EPOCH.get(0).copied().unwrap_or(0)
}

/// What a look-up says of a flow.
#[derive(Clone, Copy, PartialEq)]
pub enum State {
    /// It holds: do what it says.
    Current,
    /// It is this packet's, but where it leads must be resolved anew.
    Stale,
    /// There is none, or it is over, or it is somebody else's.
    New,
}

/// Who hands the packet over: flows belong to one origin, which is guard's check for established flows.
#[derive(Clone, Copy)]
pub enum From {
    /// A port.
    Port,
    /// The overlay, from the tunnel end at this underlay address (network byte order).
    Overlay(u32),
}

/// Finds the flow of `packet`, copies it to `flow`, and notes that it was seen.
#[inline(always)]
pub fn find<F: Family>(
    skb: Skb,
    packet: &Packet<F::Addr>,
    from: From,
    flow: &mut Flow<F::Addr>,
    other_key: &mut FlowKey<F::Addr>,
) -> State {
    let Some(pointer) = F::Addr::find_flow(&packet.key) else {
        return State::New;
    };
    // What is checked is what is then used: a copy, because a full table may give the entry to another flow at
    // any time.
    // SAFETY: map values stay valid for the whole run, and every bit pattern is a flow.
    *flow = unsafe { *pointer };
    if !comes_from(flow, skb, packet, from) {
        return State::New;
    }
    // A SYN begins a connection, unless it is the one before it again.
    if packet.opens_connection() && flow.tcp_state != TcpState::Opening as u8 {
        return State::New;
    }
    let mut stale = flow.epoch != epoch();
    let now = now();
    // Another CPU may have seen a packet after `now` was read.
    let idle = now.saturating_sub(flow.last_seen);
    if idle > TOUCH_INTERVAL {
        // Of a pair in use both halves stay: each packet refreshes its own, and the request's the other's too.
        let ttl_ms = TcpState::ttl_ms(flow.tcp_state, flow.ttl_ms);
        if idle > u64::from(ttl_ms) * NANOSECONDS_A_MILLISECOND {
            return State::New;
        }
        // SAFETY: as above; one aligned word.
        unsafe { (*pointer).last_seen = now };
        // The table evicts halves of pairs one by one; resolving anew puts a lost half back.
        stale |= flow.forward == 1;
    }
    let tcp_state = TcpState::next(flow.tcp_state, packet.tcp_flags);
    if tcp_state != flow.tcp_state {
        flow.tcp_state = tcp_state;
        if flow.rewrite != Rewrite::None as u8 && tcp_state >= TcpState::HalfClosed as u8 {
            *other_key = packet.key.answered(flow);
            close::<F>(flow, other_key);
        }
        // SAFETY: as above; one byte.
        unsafe { (*pointer).tcp_state = flow.tcp_state };
    }
    if stale { State::Stale } else { State::Current }
}

/// A FIN or RST was seen on `flow`: tells the other half of its pair, and closes both once both have seen one.
#[inline(always)]
fn close<F: Family>(flow: &mut Flow<F::Addr>, other_key: &FlowKey<F::Addr>) {
    let Some(other) = F::Addr::find_flow(other_key) else {
        return;
    };
    // SAFETY: as in `find`; one byte.
    let other_state = unsafe { &mut (*other).tcp_state };
    if *other_state >= TcpState::HalfClosed as u8 {
        flow.tcp_state = TcpState::Closed as u8;
    }
    if flow.tcp_state == TcpState::Closed as u8 {
        *other_state = TcpState::Closed as u8;
    }
}

/// True if `packet` comes from where the packets of `flow` do.
#[inline(always)]
pub fn comes_from<A: Address>(flow: &Flow<A>, skb: Skb, packet: &Packet<A>, from: From) -> bool {
    match from {
        From::Port => {
            flow.from_vtep == 0 && flow.from_ifindex == skb.ifindex() && flow.from_mac == packet.src_mac
        }
        // 0 stands for "from a port" in an entry, and a stranger may write it into a packet.
        From::Overlay(vtep) => vtep != 0 && flow.from_vtep == vtep,
    }
}

/// Makes `flow` one that changes nothing, of no service, and leads nowhere yet.
///
/// Call it before anything is looked up: whatever changes from then on makes the flow stale.
#[inline(always)]
pub fn begin<A: Address>(flow: &mut Flow<A>, packet: &Packet<A>, from: From, ifindex: u32) {
    let (from_ifindex, from_mac, from_vtep) = match from {
        From::Port => (ifindex, packet.src_mac, 0),
        From::Overlay(vtep) => (0, Mac::NONE, vtep),
    };
    *flow = Flow {
        epoch: epoch(),
        last_seen: now(),
        ttl_ms: DEFAULT_FLOW_TTL_MS,
        from_ifindex,
        from_vtep,
        to_ifindex: 0,
        to_vtep: 0,
        next_hop: 0,
        service: 0,
        backend: 0,
        src: packet.key.src,
        dst: packet.key.dst,
        checksum_delta: 0,
        src_port: packet.key.src_port,
        dst_port: packet.key.dst_port,
        from_mac,
        dst_mac: Mac::NONE,
        src_mac: Mac::GATEWAY,
        action: Action::ToHost as u8,
        rewrite: Rewrite::None as u8,
        tcp_state: if packet.key.protocol() == TCP {
            TcpState::first(packet.tcp_flags)
        } else {
            TcpState::None as u8
        },
        forward: 1,
        midway: (packet.key.protocol() == TCP && packet.tcp_flags & tcp_flags::SYN == 0) as u8,
        pad: 0,
    };
}

/// True if what a request decided for its replies still holds: its service has the backend, and the client is
/// the same pod as then, not another with its address.
#[inline(always)]
pub fn holds<F: Family>(reply: &Flow<F::Addr>, vni: Vni) -> bool {
    // Not who the reply says it is for: a pod that reaches itself has asked in the node's name.
    let client = reply.dst;
    // No interface is 0.
    let is_same_client = action(reply) != Action::ToPod
        || F::Addr::find_endpoint(&EndpointKey::new(vni, client)).map_or(0, |pod| pod.ifindex)
            == reply.to_ifindex;
    has_backend(reply) && is_same_client
}

/// True if the backend of `flow` is there, or it has none.
#[inline(always)]
pub fn has_backend<A: Tables>(flow: &Flow<A>) -> bool {
    // No service is 0. Not `is_some_and`: the compiler would read what is not there.
    flow.backend == 0 || A::find_backend(flow.backend).map_or(0, |backend| backend.service) == flow.service
}

/// True if nothing has been heard of `flow` for too long.
#[inline(always)]
pub fn is_expired<A: Address>(flow: &Flow<A>) -> bool {
    let ttl_ms = TcpState::ttl_ms(flow.tcp_state, flow.ttl_ms);
    now().saturating_sub(flow.last_seen) > u64::from(ttl_ms) * NANOSECONDS_A_MILLISECOND
}

/// Makes `flow` the reply half that `reply` was: what a request decided for its replies holds, and only where
/// the client is may have changed.
#[inline(always)]
pub fn carry_on<A: Address>(flow: &mut Flow<A>, reply: &Flow<A>) {
    flow.forward = 0;
    flow.midway = reply.midway;
    flow.service = reply.service;
    flow.backend = reply.backend;
    flow.ttl_ms = reply.ttl_ms;
    flow.rewrite = reply.rewrite;
    flow.src = reply.src;
    flow.dst = reply.dst;
    flow.src_port = reply.src_port;
    flow.dst_port = reply.dst_port;
    flow.checksum_delta = reply.checksum_delta;
    flow.tcp_state = reply.tcp_state;
}

/// True if `reply` is for another node's own process, at that node's underlay address.
#[inline(always)]
pub fn is_for_peer_itself<A: Address>(reply: &Flow<A>) -> bool {
    action(reply) == Action::ToOverlay && reply.dst.is_ipv4(reply.to_vtep) && maps::is_peer(reply.to_vtep)
}

/// The action of `flow`; entries are written by these programs only, so there always is one.
#[inline(always)]
pub fn action<A: Address>(flow: &Flow<A>) -> Action {
    match flow.action {
        1 => Action::ToPod,
        2 => Action::ToOverlay,
        _ => Action::ToHost,
    }
}
