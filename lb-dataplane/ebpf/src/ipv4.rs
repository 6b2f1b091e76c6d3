//! IPv4: RFC 791's header.

use beeline_abi::{Be16, Drop, Inet4, Node, Vni};

use crate::{
    answer::{self, Error},
    family::{ETHERNET_LEN, Family, Form, Header, Ip, Packet, Quoted, TCP_LEN},
    maps::Scratch,
    skb::Skb,
    source,
};

/// The header without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4Header {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_len: Be16,
    pub id: Be16,
    pub fragment: Be16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub src: Inet4,
    pub dst: Inet4,
}

/// Ether type.
pub const ETHERTYPE: Be16 = Be16::new(0x0800);
pub const HEADER_LEN: usize = size_of::<Ipv4Header>();

/// Don't fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
pub const DEFAULT_TTL: u8 = 64;
const ICMP: u8 = 1;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

impl Ipv4Header {
    /// Length with options, if version and length make sense.
    #[inline(always)]
    pub fn len(&self) -> Option<usize> {
        let words = (self.version_ihl & 0x0f) as usize;
        if self.version_ihl >> 4 == 4 && words >= 5 { Some(words * 4) } else { None }
    }

    /// Checksum of the header, which has no options and none yet.
    #[inline(always)]
    pub fn sum(&self) -> u16 {
        let word = |high: u8, low: u8| u32::from(u16::from_ne_bytes([high, low]));
        let address = |address: Inet4| (address.0 & 0xffff) + (address.0 >> 16);
        !fold(
            word(self.version_ihl, self.tos)
                + u32::from(self.total_len.0)
                + u32::from(self.id.0)
                + u32::from(self.fragment.0)
                + word(self.ttl, self.protocol)
                + address(self.src)
                + address(self.dst),
        )
    }

    /// True for any fragment.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// True for a fragment that does not carry the transport header.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.get() & FRAGMENT_OFFSET != 0
    }
}

/// The IPv4 family.
pub struct Ipv4;

impl Family for Ipv4 {
    type Addr = Inet4;
    type Header = Ipv4Header;

    const ETHERTYPE: Be16 = ETHERTYPE;
    const HEADERS_LEN: u32 = (ETHERNET_LEN + HEADER_LEN + TCP_LEN) as u32;
    const DECAPSULATE: u32 = 0;
    const ICMP: u8 = ICMP;
    const HAS_CHECKSUM: bool = true;

    #[inline(always)]
    fn parse(skb: Skb, l2: usize, vni: Vni) -> Result<Packet<Inet4>, Drop> {
        let l3 = l2 + ETHERNET_LEN;
        let header: Ipv4Header = skb.read(l3)?;
        let l4 = l3 + header.len().ok_or(Drop::Malformed)?;
        let ip = Ip {
            src: header.src,
            dst: header.dst,
            protocol: header.protocol,
            ttl: header.ttl,
            l4,
            form: if header.is_later_fragment() {
                Form::LATER_FRAGMENT
            } else if header.is_fragment() {
                Form::FIRST_FRAGMENT
            } else if header.protocol == ICMP && is_error(skb.read::<[u8; 2]>(l4)?) {
                Form::ERROR
            } else {
                Form::WHOLE
            },
            id: u32::from(header.id.0),
        };
        Packet::read(skb, l2, vni, ip)
    }

    #[inline(always)]
    fn source(skb: Skb) -> Option<Inet4> {
        skb.read::<Ipv4Header>(ETHERNET_LEN).ok().map(|header| header.src)
    }

    #[inline(always)]
    fn len(skb: Skb) -> Result<u32, Drop> {
        Ok(u32::from(skb.read::<Ipv4Header>(ETHERNET_LEN)?.total_len.get()))
    }

    #[inline(always)]
    fn write_header(skb: Skb, change: Header<Inet4>) -> Result<(), Drop> {
        let header = skb.at::<Ipv4Header>(ETHERNET_LEN).ok_or(Drop::Malformed)?;
        // SAFETY: `at` has checked the bounds. BPF accesses need no alignment.
        let header = unsafe { &mut *header };
        let mut delta = 0;
        if change.decrement_ttl {
            // TTL and protocol share a checksum word, with TTL in its first byte: one less is 0x0100 less on the wire.
            header.ttl -= 1;
            delta += !0x0100_u16.to_be() as u32;
        }
        if let Some((src, dst, address_delta)) = change.addresses {
            (header.src, header.dst) = (src, dst);
            delta += (address_delta & 0xffff) + (address_delta >> 16);
        }
        header.checksum = mend(header.checksum, delta);
        Ok(())
    }

    #[inline(always)]
    fn header(src: Inet4, dst: Inet4, protocol: u8, length: u16) -> Ipv4Header {
        let mut header = Ipv4Header {
            version_ihl: 0x45,
            tos: 0,
            total_len: Be16::new(length + HEADER_LEN as u16),
            id: Be16(0),
            // A packet that is never fragmented needs no id (RFC 6864).
            fragment: Be16::new(DONT_FRAGMENT),
            ttl: DEFAULT_TTL,
            protocol,
            checksum: 0,
            src,
            dst,
        };
        header.checksum = header.sum();
        header
    }

    #[inline(always)]
    fn icmp_error(node: &Node, error: Error) -> (u8, u8, u32) {
        answer::icmp(node, error)
    }

    #[inline(always)]
    fn settle_source(scratch: &mut Scratch<Inet4>) -> bool {
        source::settle4(scratch) != 0
    }

    #[inline(always)]
    fn gateway(node: &Node) -> Inet4 {
        node.gateway4
    }

    #[inline(always)]
    fn quoted(skb: Skb, at: usize) -> Option<Quoted<Inet4>> {
        let header: Ipv4Header = skb.read(at).ok()?;
        if header.is_later_fragment() {
            return None;
        }
        Some(Quoted { src: header.src, dst: header.dst, protocol: header.protocol, l4: at + header.len()? })
    }

    #[inline(always)]
    fn write_quoted(skb: Skb, at: usize, src: Inet4, dst: Inet4, delta: u32) -> Result<(), Drop> {
        let header = skb.at::<Ipv4Header>(at).ok_or(Drop::Malformed)?;
        // SAFETY: as in `write_header`.
        let header = unsafe { &mut *header };
        (header.src, header.dst) = (src, dst);
        header.checksum = mend(header.checksum, delta);
        Ok(())
    }

    #[inline(always)]
    fn checksum_flags(_: &Node) -> u64 {
        0
    }
}

/// ICMP's errors: unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122 §3.2.2).
#[inline(always)]
fn is_error([icmp_type, _code]: [u8; 2]) -> bool {
    matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
}

/// Checksum `old` after words that differ by `delta` (RFC 1624, equation 3).
#[inline(always)]
pub fn mend(old: u16, delta: u32) -> u16 {
    !fold(!old as u32 + delta)
}

/// Folds a one's complement sum into 16 bits.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
