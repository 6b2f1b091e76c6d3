//! What differs between the address families. All other modules are generic over this.

use beeline_abi::{Be16, Drop, FlowKey, Mac, Node, Vni};

use crate::{
    answer::Error,
    fragments,
    maps::{Scratch, Tables},
    skb::Skb,
};

/// Length of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// Length of the part of a TCP header that is read.
pub const TCP_LEN: usize = 20;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// True for a transport protocol whose header begins with a source and a destination port.
#[inline(always)]
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

/// TCP flags, as they stand in the header's byte 13.
pub mod tcp_flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// What the layers need to know of a packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Packet<A> {
    /// Names its flow.
    pub key: FlowKey<A>,
    /// MAC it came from.
    pub src_mac: Mac,
    /// Byte at which its transport header starts. Read it with [`Self::l4`].
    l4: u8,
    /// Time to live, which IPv6 calls hop limit.
    pub ttl: u8,
    /// TCP flags; 0 for anything else.
    pub tcp_flags: u8,
    /// What of a packet this is.
    pub form: Form,
    /// Zero.
    pad: [u8; 2],
    /// Names the datagram that a fragment is of; 0 for anything else.
    pub id: u32,
}

/// What of a packet there is, and what of that has to change with its addresses. Any byte is one, as any bit pattern of
/// a [`Packet`] must be.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq)]
pub struct Form(u8);

impl Form {
    /// All of it.
    pub const WHOLE: Self = Self(0);
    /// The fragment that has the transport header.
    pub const FIRST_FRAGMENT: Self = Self(1);
    /// A fragment that has none. Its ports are those that the first one had; 0 if that is not known.
    pub const LATER_FRAGMENT: Self = Self(2);
    /// An ICMP error, which quotes a packet of the flow that it is about.
    pub const ERROR: Self = Self(3);
    /// An ICMP error about no flow of ours, which goes its own way.
    pub const STRAY_ERROR: Self = Self(4);
}

/// What an IP header, with what follows it, says of its packet.
pub struct Ip<A> {
    pub src: A,
    pub dst: A,
    pub protocol: u8,
    pub ttl: u8,
    /// Byte at which the transport header starts.
    pub l4: usize,
    pub form: Form,
    /// Names the datagram that a fragment is of.
    pub id: u32,
}

impl<A: Tables> Packet<A> {
    /// Reads what else there is of the packet whose Ethernet header is at byte `l2`.
    #[inline(always)]
    pub fn read(skb: Skb, l2: usize, vni: Vni, ip: Ip<A>) -> Result<Self, Drop> {
        let is_first = ip.form != Form::LATER_FRAGMENT;
        let [src_port, dst_port] = match (has_ports(ip.protocol), is_first) {
            (true, true) => skb.read::<[Be16; 2]>(ip.l4)?,
            (true, false) => fragments::ports(vni, &ip),
            _ => [Be16(0); 2],
        };
        let tcp_flags = if is_first && ip.protocol == TCP { skb.read::<u8>(ip.l4 + 13)? } else { 0 };
        Ok(Self {
            key: FlowKey::new(vni, ip.protocol, (ip.src, src_port), (ip.dst, dst_port)),
            src_mac: skb.read::<Mac>(l2 + 6)?,
            l4: ip.l4 as u8,
            ttl: ip.ttl,
            tcp_flags,
            form: ip.form,
            pad: [0; 2],
            id: ip.id,
        })
    }

    /// Byte at which its transport header starts: less than 256, whatever stands before it.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        usize::from(self.l4)
    }

    /// True for a piece of a packet; only the first has ports.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.form == Form::FIRST_FRAGMENT || self.is_later_fragment()
    }

    /// True for a piece that does not carry the transport header.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.form == Form::LATER_FRAGMENT
    }

    /// True for an ICMP error, of which nobody is told in turn (RFC 1122 §3.2.2).
    #[inline(always)]
    pub fn is_error(&self) -> bool {
        self.form == Form::ERROR || self.form == Form::STRAY_ERROR
    }

    /// The first packet of a TCP connection.
    #[inline(always)]
    pub fn opens_connection(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN
    }
}

/// An address family: its header. Its tables are [`Tables`].
pub trait Family {
    type Addr: Tables;
    /// The IP header.
    type Header: Copy;

    /// Ether type.
    const ETHERTYPE: Be16;
    /// Ethernet, IP without options, and the part of TCP that is read: what must be linear.
    const HEADERS_LEN: u32;
    /// How `bpf_skb_adjust_room` is told that this family comes out of IPv4.
    const DECAPSULATE: u32;
    /// Whether its header has a checksum, which a change of address leaves without effect on the packet's sum.
    const HAS_CHECKSUM: bool;

    /// Protocol number of this family's ICMP.
    const ICMP: u8;

    /// Reads the packet whose Ethernet header is at byte `l2`.
    fn parse(skb: Skb, l2: usize, vni: Vni) -> Result<Packet<Self::Addr>, Drop>;

    /// Source of the packet whose Ethernet header is at byte 0, if it has one.
    fn source(skb: Skb) -> Option<Self::Addr>;

    /// Length of the packet whose Ethernet header is at byte 0, in bytes, from its IP header on.
    fn len(skb: Skb) -> Result<u32, Drop>;

    /// Writes what `change` says into the header that follows the Ethernet header, and mends its checksum.
    fn write_header(skb: Skb, change: Header<Self::Addr>) -> Result<(), Drop>;

    /// An IP header without options in front of `length` bytes of `protocol`.
    fn header(src: Self::Addr, dst: Self::Addr, protocol: u8, length: u16) -> Self::Header;

    /// Type, code and the word after them, network byte order, of an ICMP error.
    fn icmp_error(node: &Node, error: Error) -> (u8, u8, u32);

    /// See [`crate::source`]: gives the flow in hand a source port of its own, if there is one.
    fn settle_source(scratch: &mut Scratch<Self::Addr>) -> bool;

    /// The node's address in the overlay.
    fn gateway(node: &Node) -> Self::Addr;

    /// Reads the IP header that an ICMP error quotes at byte `at`; `None` if it names no transport header after it.
    fn quoted(skb: Skb, at: usize) -> Option<Quoted<Self::Addr>>;

    /// Writes new addresses into the IP header quoted at byte `at`, and mends its checksum, if it has one, for a sum
    /// that grows by `delta`.
    fn write_quoted(skb: Skb, at: usize, src: Self::Addr, dst: Self::Addr, delta: u32) -> Result<(), Drop>;

    /// What `bpf_l4_csum_replace` must be told besides when an address changes.
    fn checksum_flags(node: &Node) -> u64;
}

/// What an ICMP error quotes.
pub struct Quoted<A> {
    pub src: A,
    pub dst: A,
    pub protocol: u8,
    /// Byte at which the quoted transport header starts.
    pub l4: usize,
}

/// A change of an IP header.
#[derive(Clone, Copy)]
pub struct Header<A> {
    /// New source and destination, with the checksum difference they make.
    pub addresses: Option<(A, A, u32)>,
    /// One hop fewer to live.
    pub decrement_ttl: bool,
}
