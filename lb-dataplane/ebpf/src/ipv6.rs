//! IPv6: RFC 8200's header.

use aya_ebpf::bindings::BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
use beeline_abi::{Be16, Drop, Inet6, Node, Vni};

use crate::{
    answer::{self, Error},
    extensions::{self, Extensions},
    family::{ETHERNET_LEN, Family, Form, Header, Ip, Packet, Quoted, TCP_LEN},
    ipv4::DEFAULT_TTL,
    maps::Scratch,
    skb::Skb,
    source,
};

/// The fixed header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6Header {
    /// Version, traffic class and flow label.
    version_class_flow: u32,
    payload_len: Be16,
    next_header: u8,
    hop_limit: u8,
    src: Inet6,
    dst: Inet6,
}

const HEADER_LEN: usize = size_of::<Ipv6Header>();

const ICMPV6: u8 = 58;
/// ICMPv6's types below are errors (RFC 4443 §2.1).
const FIRST_INFORMATION: u8 = 128;

/// The IPv6 family.
pub struct Ipv6;

impl Family for Ipv6 {
    type Addr = Inet6;
    type Header = Ipv6Header;

    const ETHERTYPE: Be16 = Be16::new(0x86dd);
    const HEADERS_LEN: u32 = (ETHERNET_LEN + HEADER_LEN + TCP_LEN) as u32;
    const DECAPSULATE: u32 = BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
    const ICMP: u8 = ICMPV6;
    const HAS_CHECKSUM: bool = false;

    #[inline(always)]
    fn parse(skb: Skb, l2: usize, vni: Vni) -> Result<Packet<Inet6>, Drop> {
        let l3 = l2 + ETHERNET_LEN;
        let header: Ipv6Header = skb.read(l3)?;
        if u32::from_be(header.version_class_flow) >> 28 != 6 {
            return Err(Drop::Malformed);
        }
        let at = l3 + HEADER_LEN;
        let Extensions { protocol, len, fragment, id } = extensions::read(skb, at, header.next_header)?;
        let l4 = at + len;
        if len != 0 {
            skb.pull((l4 + TCP_LEN) as u32);
        }
        let mut form = match fragment {
            0 => Form::WHOLE,
            extensions::MORE => Form::FIRST_FRAGMENT,
            _ => Form::LATER_FRAGMENT,
        };
        if protocol == ICMPV6 && form != Form::LATER_FRAGMENT {
            let [icmp_type, _code] = skb.read::<[u8; 2]>(l4)?;
            if form == Form::WHOLE && icmp_type < FIRST_INFORMATION {
                form = Form::ERROR;
            }
            if is_neighbour_discovery(icmp_type) {
                return Err(Drop::NeighbourDiscovery);
            }
        }
        let ip = Ip { src: header.src, dst: header.dst, protocol, ttl: header.hop_limit, l4, form, id };
        Packet::read(skb, l2, vni, ip)
    }

    #[inline(always)]
    fn source(skb: Skb) -> Option<Inet6> {
        skb.read::<Ipv6Header>(ETHERNET_LEN).ok().map(|header| header.src)
    }

    #[inline(always)]
    fn len(skb: Skb) -> Result<u32, Drop> {
        Ok(HEADER_LEN as u32 + u32::from(skb.read::<Ipv6Header>(ETHERNET_LEN)?.payload_len.get()))
    }

    #[inline(always)]
    fn write_header(skb: Skb, change: Header<Inet6>) -> Result<(), Drop> {
        let header = skb.at::<Ipv6Header>(ETHERNET_LEN).ok_or(Drop::Malformed)?;
        // SAFETY: `at` has checked the bounds. BPF accesses need no alignment.
        let header = unsafe { &mut *header };
        if change.decrement_ttl {
            header.hop_limit -= 1;
        }
        if let Some((src, dst, _)) = change.addresses {
            (header.src, header.dst) = (src, dst);
        }
        Ok(())
    }

    #[inline(always)]
    fn header(src: Inet6, dst: Inet6, protocol: u8, length: u16) -> Ipv6Header {
        Ipv6Header {
            version_class_flow: (6_u32 << 28).to_be(),
            payload_len: Be16::new(length),
            next_header: protocol,
            hop_limit: DEFAULT_TTL,
            src,
            dst,
        }
    }

    #[inline(always)]
    fn icmp_error(node: &Node, error: Error) -> (u8, u8, u32) {
        answer::icmpv6(node, error)
    }

    #[inline(always)]
    fn settle_source(scratch: &mut Scratch<Inet6>) -> bool {
        source::settle6(scratch) != 0
    }

    #[inline(always)]
    fn gateway(node: &Node) -> Inet6 {
        node.gateway6
    }

    #[inline(always)]
    fn quoted(skb: Skb, at: usize) -> Option<Quoted<Inet6>> {
        let header: Ipv6Header = skb.read(at).ok()?;
        let start = at + HEADER_LEN;
        let Extensions { protocol, len, fragment, .. } =
            extensions::read(skb, start, header.next_header).ok()?;
        if !matches!(fragment, 0 | extensions::MORE) {
            return None;
        }
        Some(Quoted { src: header.src, dst: header.dst, protocol, l4: start + len })
    }

    #[inline(always)]
    fn write_quoted(skb: Skb, at: usize, src: Inet6, dst: Inet6, _: u32) -> Result<(), Drop> {
        let header = skb.at::<Ipv6Header>(at).ok_or(Drop::Malformed)?;
        // SAFETY: as in `write_header`.
        let header = unsafe { &mut *header };
        (header.src, header.dst) = (src, dst);
        Ok(())
    }

    #[inline(always)]
    fn checksum_flags(node: &Node) -> u64 {
        u64::from(node.ipv6_checksum_flags)
    }
}

/// Router and neighbour solicitations and advertisements, and redirects (RFC 4861 §4).
#[inline(always)]
fn is_neighbour_discovery(icmp_type: u8) -> bool {
    matches!(icmp_type, 133..=137)
}
