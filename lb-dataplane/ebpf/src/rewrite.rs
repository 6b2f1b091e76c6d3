//! Rewrite: new addresses, ports, MACs and one hop fewer to live, with every checksum right.

use beeline_abi::{Address, Be16, Drop, Flow, Mac, Node, Rewrite};

use crate::{
    family::{ETHERNET_LEN, Family, Form, Header, Packet, SCTP, UDP},
    icmp, sctp,
    skb::Skb,
};

const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
/// A UDP checksum of 0 means "none" and stays so (RFC 768).
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;

/// Does to the packet, whose Ethernet header is at byte 0 and whose transport header is at byte `l4`, what
/// `flow` says.
#[inline(always)]
pub fn apply<F: Family>(
    skb: Skb,
    node: &Node,
    packet: &Packet<F::Addr>,
    l4: usize,
    flow: &Flow<F::Addr>,
    decrement_ttl: bool,
) -> Result<(), Drop> {
    if flow.rewrite == Rewrite::None as u8 {
        return if decrement_ttl {
            F::write_header(skb, Header { addresses: None, decrement_ttl })
        } else {
            Ok(())
        };
    }
    if packet.form == Form::ERROR {
        icmp::translate::<F>(skb, packet, l4, flow)?;
        return if decrement_ttl {
            F::write_header(skb, Header { addresses: None, decrement_ttl })
        } else {
            Ok(())
        };
    }
    let ports = Ports {
        old: word(packet.key.src_port, packet.key.dst_port),
        new: word(flow.src_port, flow.dst_port),
    };
    match (packet.form, packet.key.protocol()) {
        (Form::LATER_FRAGMENT, _) => cover::<F>(skb, flow),
        (form, SCTP) => {
            cover::<F>(skb, flow);
            if ports.old != ports.new {
                if form != Form::WHOLE {
                    return Err(Drop::SctpFragment);
                }
                let len = F::len(skb)?.wrapping_sub((l4 - ETHERNET_LEN) as u32);
                sctp::mend_checksum(skb, l4, len, ports.old, ports.new)?;
                skb.write(l4, ports.new)?;
            }
        }
        (_, UDP) => transport::<F>(skb, node, l4, (l4 + 6, BPF_F_MARK_MANGLED_0), flow, ports)?,
        _ => transport::<F>(skb, node, l4, (l4 + 16, 0), flow, ports)?,
    }
    let addresses = Some((flow.src, flow.dst, flow.checksum_delta));
    F::write_header(skb, Header { addresses, decrement_ttl })
}

/// Source and destination port before and after, as they stand in a packet.
struct Ports {
    old: u32,
    new: u32,
}

/// Writes the ports of TCP or UDP, whose checksum covers them and the addresses.
#[inline(always)]
fn transport<F: Family>(
    skb: Skb,
    node: &Node,
    l4: usize,
    (checksum_at, flags): (usize, u64),
    flow: &Flow<F::Addr>,
    ports: Ports,
) -> Result<(), Drop> {
    const PORTS_LEN: u64 = 4;
    let for_address = flags | BPF_F_PSEUDO_HDR | F::checksum_flags(node);
    skb.fix_checksum(checksum_at, 0, u64::from(flow.checksum_delta), for_address)?;
    if ports.old != ports.new {
        skb.fix_checksum(checksum_at, u64::from(ports.old), u64::from(ports.new), flags | PORTS_LEN)?;
        skb.write(l4, ports.new)?;
    }
    Ok(())
}

/// Where no transport checksum covers the addresses, the sum that the device made of the packet changes with them,
/// unless the header's own checksum makes up for it.
#[inline(always)]
fn cover<F: Family>(skb: Skb, flow: &Flow<F::Addr>) {
    if !F::HAS_CHECKSUM {
        skb.change_sum(flow.checksum_delta);
    }
}

/// Two ports as they follow each other in a packet.
#[inline(always)]
fn word(src: Be16, dst: Be16) -> u32 {
    u32::from(src.0) | u32::from(dst.0) << 16
}

/// Writes the flow's MACs into the Ethernet header at byte 0.
#[inline(always)]
pub fn macs<A: Address>(skb: Skb, flow: &Flow<A>) -> Result<(), Drop> {
    skb.write::<[Mac; 2]>(0, [flow.dst_mac, flow.src_mac])
}
