//! ICMP errors about flows: each quotes a packet that it is about, and belongs to the flow of those that answer it. It takes
//! their way, and what they are rewritten to is rewritten in what it quotes too, so that its receiver knows its own packet.
//!
//! Errors that we make ourselves are [`crate::answer`]'s.

use beeline_abi::{Address, Be16, Drop, Flow, FlowKey, RouteKey, Vni};

use crate::{
    extensions,
    family::{Family, Form, Header, Packet, TCP, TCP_LEN, UDP, has_ports},
    flow::{self, From},
    ipv4::mend,
    maps::{self, Tables},
    skb::Skb,
};

/// Length of an error's own header.
const HEADER_LEN: usize = 8;
/// What is looked at after it: an IP header with all that may follow it, and TCP's up to its checksum.
const QUOTED_LEN: usize = 40 + extensions::MOST_BYTES as usize + TCP_LEN;

/// Makes `packet`, if it is an ICMP error about a flow of ours, one of that flow. Any other error goes its own way.
///
/// It must come from where the flow's packets do. Its source may be another only where that is trusted or known to be
/// there: the host speaks for others, and behind a tunnel end are other addresses than the flow's.
#[inline(always)]
pub fn relate<F: Family>(skb: Skb, packet: &mut Packet<F::Addr>, from: From) {
    if packet.form == Form::ERROR {
        let vtep = match from {
            From::Port => 0,
            From::Overlay(vtep) => vtep,
        };
        find::<F>(skb, packet, vtep);
    }
}

/// A function of its own, and so with a stack of its own. `vtep` is 0 for a port, as in flows: a number, because the
/// verifier takes no argument of which a part may be undefined. No flow from a port comes in by the uplink, whatever
/// stands there as tunnel end.
#[inline(never)]
fn find<F: Family>(skb: Skb, packet: &mut Packet<F::Addr>, vtep: u32) {
    let from = if vtep == 0 { From::Port } else { From::Overlay(vtep) };
    let at = packet.l4() + HEADER_LEN;
    skb.pull((at + QUOTED_LEN) as u32);
    if let Some(vni) = Vni::new(packet.key.vni())
        && let Some(key) = answering::<F>(skb, vni, at)
        && key.dst == packet.key.dst
        && (key.src == packet.key.src || may_speak::<F>(skb, vni, packet.key.src, from))
        && let Some(flow) = F::Addr::find_flow(&key)
        // SAFETY: map values stay valid for the whole run, and every bit pattern is a flow.
        && flow::comes_from(unsafe { &*flow }, skb, packet, from)
    {
        packet.key = key;
    } else {
        packet.form = Form::STRAY_ERROR;
    }
}

/// The flow of the packets that answer the one quoted at byte `at`.
#[inline(always)]
fn answering<F: Family>(skb: Skb, vni: Vni, at: usize) -> Option<FlowKey<F::Addr>> {
    let quoted = F::quoted(skb, at)?;
    if !has_ports(quoted.protocol) {
        return None;
    }
    let [src_port, dst_port] = skb.read::<[Be16; 2]>(quoted.l4).ok()?;
    Some(FlowKey::new(vni, quoted.protocol, (quoted.dst, dst_port), (quoted.src, src_port)))
}

/// Whether `source` may tell of others' packets.
#[inline(always)]
fn may_speak<F: Family>(skb: Skb, vni: Vni, source: F::Addr, from: From) -> bool {
    match from {
        From::Port => maps::node().is_ok_and(|(node, _)| skb.ifindex() == node.host_port_ifindex),
        From::Overlay(vtep) => {
            F::Addr::find_route(RouteKey::new(vni, source)).is_some_and(|route| route.vtep == vtep)
        }
    }
}

/// Does to an error of `flow` what `flow` does to its packets, and the same, the other way round, to what it quotes. The
/// error's Ethernet header is at byte 0, its ICMP header at byte `l4`.
///
/// An address of somebody on the way stays what it is.
#[inline(never)]
pub fn translate<F: Family>(
    skb: Skb,
    packet: &Packet<F::Addr>,
    l4: usize,
    flow: &Flow<F::Addr>,
) -> Result<(), Drop> {
    const CHECKSUM_AT: usize = 2;
    let key = &packet.key;
    let at = l4 + HEADER_LEN;
    let quoted = F::quoted(skb, at).ok_or(Drop::Malformed)?;
    let sender = F::source(skb).ok_or(Drop::Malformed)?;
    // Quoted is a packet that these answer: source and destination change places, and their sum stays the same.
    let addresses = halves(flow.checksum_delta);
    let ports = change(key.src_port.0, flow.src_port.0) + change(key.dst_port.0, flow.dst_port.0);
    F::write_quoted(skb, at, flow.dst, flow.src, addresses)?;
    skb.write(quoted.l4, [flow.dst_port, flow.src_port])?;
    let mut delta = ports + transport(skb, &quoted.protocol, quoted.l4, addresses + ports);

    let (sender, outer) = if sender == key.src {
        (flow.src, flow.checksum_delta)
    } else {
        (sender, key.dst.checksum_delta(flow.dst))
    };
    if !F::HAS_CHECKSUM {
        // Nothing in a header makes up for its addresses; and those of the error itself are summed with it.
        delta += addresses + halves(outer);
    }
    let checksum: u16 = skb.read(l4 + CHECKSUM_AT)?;
    skb.write(l4 + CHECKSUM_AT, mend(checksum, delta))?;
    F::write_header(skb, Header { addresses: Some((sender, flow.dst, outer)), decrement_ttl: false })
}

/// Mends the checksum in the transport header quoted at byte `l4`, as far as it is quoted, for a sum that grows by `delta`;
/// gives by how much that itself makes the sum grow. SCTP's is of bytes that are not quoted, and stays.
#[inline(always)]
fn transport(skb: Skb, protocol: &u8, l4: usize, delta: u32) -> u32 {
    let checksum_at = match *protocol {
        UDP => l4 + 6,
        TCP => l4 + 16,
        _ => return 0,
    };
    let Ok(old) = skb.read::<u16>(checksum_at) else {
        return 0;
    };
    if *protocol == UDP && old == 0 {
        return 0;
    }
    let mut new = mend(old, delta);
    if *protocol == UDP && new == 0 {
        // 0 would mean "none" (RFC 768).
        new = 0xffff;
    }
    if skb.write(checksum_at, new).is_err() { 0 } else { change(old, new) }
}

/// What a change of one word adds to a sum.
#[inline(always)]
fn change(old: u16, new: u16) -> u32 {
    u32::from(!old) + u32::from(new)
}

/// A sum of 32-bit words as one of 16-bit words.
#[inline(always)]
fn halves(sum: u32) -> u32 {
    (sum & 0xffff) + (sum >> 16)
}
