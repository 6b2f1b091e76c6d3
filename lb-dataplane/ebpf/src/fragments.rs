//! Fragments: the first of a datagram has its ports, and the later ones find here which they were, so that all of them
//! take the same way.
//!
//! Nothing is held back: a later fragment that comes before the first has no ports. To a virtual address it is dropped,
//! since nobody can tell for which service it is. Anywhere else it goes on as it is, which is right unless it is
//! part of a service's reply; then its receiver cannot put it together with the rest, and that is as good as lost.

use beeline_abi::{Be16, FragmentKey, FragmentPorts, Vni};

use crate::{
    family::{Form, Ip, Packet},
    maps::Tables,
    skb::now,
};

/// How long a datagram's ports hold, in nanoseconds: what Linux waits for an IPv4 datagram's fragments
/// (`net.ipv4.ipfrag_time`). Its identification, which has 16 bits, may be another's afterwards.
const LIFETIME: u64 = 30_000_000_000;

/// Source and destination port of the datagram that the later fragment `ip` is of; zeroes if its first fragment has
/// not been seen.
#[inline(always)]
pub fn ports<A: Tables>(vni: Vni, ip: &Ip<A>) -> [Be16; 2] {
    let key = FragmentKey::new(vni, ip.protocol, ip.src, ip.dst, ip.id);
    match A::find_fragments(&key) {
        Some(first) if now().saturating_sub(first.seen) < LIFETIME => [first.src_port, first.dst_port],
        _ => [Be16(0); 2],
    }
}

/// Remembers the ports of `packet`, if it is a first fragment. Call it when the packet is known to be what it claims:
/// others' fragments would follow it.
#[inline(always)]
pub fn remember<A: Tables>(vni: Vni, packet: &Packet<A>) {
    if packet.form != Form::FIRST_FRAGMENT {
        return;
    }
    let Packet { key, id, .. } = packet;
    let ports = FragmentPorts { seen: now(), src_port: key.src_port, dst_port: key.dst_port, pad: 0 };
    A::keep_fragments(&FragmentKey::new(vni, key.protocol(), key.src, key.dst, *id), &ports);
}
