//! VXLAN (RFC 7348) over IPv4, made and taken apart here, past the host's stack.

use beeline_abi::{Address, Be16, Drop, Flow, Inet4, Mac, Node};

use crate::{
    family::{ETHERNET_LEN, Family, UDP},
    ipv4::{self, DEFAULT_TTL, DONT_FRAGMENT, Ipv4Header},
    skb::Skb,
};

/// What encapsulation adds to a packet: outer IP, UDP, VXLAN, inner Ethernet.
pub const OVERHEAD: usize = size_of::<Outer>() + ETHERNET_LEN;

/// The I flag: the VNI is valid (§5).
const VNI_PRESENT: u32 = 0x0800_0000;

/// Outer headers, as they follow the outer Ethernet header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Outer {
    ip: Ipv4Header,
    src_port: Be16,
    dst_port: Be16,
    udp_len: Be16,
    /// Zero: none, as RFC 7348 §4.1 advises over IPv4.
    udp_checksum: u16,
    /// Flags and VNI, network byte order.
    flags: u32,
    vni: u32,
}

const _: () = assert!(OVERHEAD == 50);

/// Wraps the packet in VXLAN to the tunnel end of `flow`. Its Ethernet header becomes the outer one.
#[inline(always)]
pub fn encapsulate<A: Address>(skb: Skb, node: &Node, flow: &Flow<A>) -> Result<(), Drop> {
    // Before the packet changes: the hash must be the inner flow's, so that paths and queues keep flows together.
    let hash = skb.hash();
    skb.make_room(OVERHEAD as i32)?;
    let ip_len = skb.len() as u16 - ETHERNET_LEN as u16;
    let mut outer = Outer {
        ip: Ipv4Header {
            version_ihl: 0x45,
            tos: 0,
            total_len: Be16::new(ip_len),
            id: Be16(0),
            // VTEPs must not fragment (§4.3), and a packet that is never fragmented needs no id (RFC 6864).
            fragment: Be16::new(DONT_FRAGMENT),
            ttl: DEFAULT_TTL,
            protocol: UDP,
            checksum: 0,
            src: Inet4(node.vtep),
            dst: Inet4(flow.to_vtep),
        },
        // From the dynamic range, as §5 advises.
        src_port: Be16::new(hash as u16 | 0xc000),
        dst_port: node.vxlan_port,
        udp_len: Be16::new(ip_len - ipv4::HEADER_LEN as u16),
        udp_checksum: 0,
        flags: VNI_PRESENT.to_be(),
        vni: (node.vni << 8).to_be(),
    };
    outer.ip.checksum = outer.ip.sum();
    skb.write(ETHERNET_LEN, outer)?;
    let inner = ETHERNET_LEN + size_of::<Outer>();
    skb.write::<[Mac; 2]>(inner, [flow.dst_mac, flow.src_mac])?;
    // The outer Ethernet header still has the inner packet's type; outside, it is IPv4.
    let ethertype: Be16 = skb.read(12)?;
    skb.write(inner + 12, ethertype)?;
    skb.write(12, ipv4::ETHERTYPE)
}

/// A VXLAN packet that is for us.
pub struct Arrived {
    /// Byte of the inner Ethernet header.
    pub l2: usize,
    /// Outer source address, network byte order.
    pub vtep: u32,
}

/// Reads the outer headers. `None`: not VXLAN for this node, or in a form (IP options, fragments) that is left
/// to the kernel's own VXLAN device.
#[inline(always)]
pub fn recognize(skb: Skb, node: &Node) -> Result<Option<Arrived>, Drop> {
    const INNER_ETHERNET_END: usize = ETHERNET_LEN + OVERHEAD;
    skb.pull(INNER_ETHERNET_END as u32);
    let Ok(outer) = skb.read::<Outer>(ETHERNET_LEN) else {
        return Ok(None);
    };
    if outer.ip.version_ihl != 0x45
        || outer.ip.protocol != UDP
        || outer.ip.is_fragment()
        || outer.ip.dst.0 != node.vtep
        || outer.dst_port != node.vxlan_port
    {
        return Ok(None);
    }
    if outer.flags & VNI_PRESENT.to_be() == 0 {
        return Err(Drop::Malformed);
    }
    // The last byte is reserved and ignored (§5).
    if u32::from_be(outer.vni) >> 8 != node.vni {
        return Err(Drop::UnknownVni);
    }
    Ok(Some(Arrived { l2: ETHERNET_LEN + size_of::<Outer>(), vtep: outer.ip.src.0 }))
}

/// Takes the outer headers off; the inner Ethernet header goes with them, its place is the outer one's.
#[inline(always)]
pub fn decapsulate<F: Family>(skb: Skb) -> Result<(), Drop> {
    skb.take_room(OVERHEAD as i32, F::DECAPSULATE)?;
    if F::ETHERTYPE != ipv4::ETHERTYPE {
        skb.write(12, F::ETHERTYPE)?;
    }
    Ok(())
}
