//! Answers: a port's packet, turned around in place to tell its sender that it went nowhere. A TCP reset, or an ICMP
//! error, by one way for both families. Who is not to be told, and why packets are refused, is decided elsewhere.

use beeline_abi::{Address, Be16, Drop, Hop, Mac, Node, add_checksums};

use crate::{
    Verdict, count,
    family::{ETHERNET_LEN, Family, Packet, SCTP, TCP, UDP, tcp_flags},
    maps::{self, Quote, Scratch, Tables},
    skb::{self, Skb, redirect_to_ingress, redirect_to_peer},
};

/// An ICMP error, by what it says in either family.
#[derive(Clone, Copy)]
pub enum Error {
    /// Nobody listens at the port. It comes from the address that was asked.
    PortUnreachable,
    /// The time to live ran out. It comes from the node's address in the overlay.
    TtlExceeded,
    /// The packet is larger than the overlay carries. Likewise, and it says how much that is.
    TooBig,
}

/// What the sender of a packet is told.
#[derive(Clone, Copy)]
enum Answer {
    /// A reset, if it was TCP; else port unreachable.
    Refusal,
    /// A reset, if it was TCP; else nothing.
    Reset,
    /// This.
    Error(Error),
}

/// What the sender is told when its packet is dropped for `reason`; `None`: nothing.
#[inline(always)]
fn answer(reason: Drop) -> Option<Answer> {
    match reason {
        Drop::NoBackend | Drop::NoFrontend => Some(Answer::Refusal),
        Drop::BackendGone => Some(Answer::Reset),
        Drop::TtlExceeded => Some(Answer::Error(Error::TtlExceeded)),
        // By IPv4 also to those who would have it cut on the way (no DF): nobody on this way cuts anything, and VTEPs must not
        // (RFC 7348 §4.3). Whoever is told cuts it himself.
        Drop::PacketTooBig => Some(Answer::Error(Error::TooBig)),
        _ => None,
    }
}

/// Answers the packet in hand, which is dropped for `reason`, if that is one to answer; counts the reason either way.
#[inline(always)]
pub fn refuse<F: Family>(skb: Skb, node: &Node, reason: Drop) -> Verdict {
    count::drop(reason);
    let result = match answer(reason) {
        Some(Answer::Error(error)) => send_error::<F>(skb, node, error),
        Some(answer) => refuse_port::<F>(skb, node, matches!(answer, Answer::Refusal)),
        None => None,
    };
    result.unwrap_or(Verdict::SHOT)
}

/// Resets TCP; tells others that nobody listens, if `with_error`.
#[inline(always)]
fn refuse_port<F: Family>(skb: Skb, node: &Node, with_error: bool) -> Option<Verdict> {
    let Scratch { packet, .. } = F::Addr::scratch().ok()?;
    if packet.is_error() {
        return None;
    }
    match packet.key.protocol() {
        TCP => reset::<F>(skb, node),
        UDP | SCTP if with_error => send_error::<F>(skb, node, Error::PortUnreachable),
        _ => None,
    }
}

/// A TCP header without options (RFC 9293 §3.1).
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpHeader {
    src_port: Be16,
    dst_port: Be16,
    seq: u32,
    ack: u32,
    /// Length of the header in words, in the upper four bits.
    offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

/// Turns the packet in hand into a reset, by the rules of RFC 9293 §3.10.7.1.
#[inline(never)]
fn reset<F: Family>(skb: Skb, node: &Node) -> Option<Verdict> {
    let Scratch { packet, .. } = F::Addr::scratch().ok()?;
    if packet.is_fragment() || packet.tcp_flags & tcp_flags::RST != 0 {
        return None;
    }
    let l4 = packet.l4();
    let asked: TcpHeader = skb.read(l4).ok()?;
    let (seq, ack, flags) = if asked.flags & tcp_flags::ACK != 0 {
        (asked.ack, 0, tcp_flags::RST)
    } else {
        let header = l4 as u32 + u32::from(asked.offset >> 4) * 4;
        let syn_fin = (asked.flags & tcp_flags::SYN != 0) as u32 + (asked.flags & tcp_flags::FIN != 0) as u32;
        let length = skb.len().wrapping_sub(header).wrapping_add(syn_fin);
        (0, u32::from_be(asked.seq).wrapping_add(length).to_be(), tcp_flags::RST | tcp_flags::ACK)
    };
    const LEN: usize = size_of::<TcpHeader>();
    let mut header = TcpHeader {
        src_port: packet.key.dst_port,
        dst_port: packet.key.src_port,
        seq,
        ack,
        offset: ((LEN / 4) << 4) as u8,
        flags,
        window: 0,
        checksum: 0,
        urgent: 0,
    };
    let pseudo = pseudo_header(packet.key.dst, packet.key.src, TCP, LEN);
    header.checksum = skb::checksum(&header, LEN as u32, pseudo)?;
    let l4 = turn_around::<F>(skb, packet, packet.key.dst, TCP, LEN)?;
    skb.write(l4, header).ok()?;
    Some(deliver(skb, node))
}

/// The header of an ICMP error of either family (RFC 792, RFC 4443 §2.1).
#[repr(C)]
#[derive(Clone, Copy)]
struct IcmpHeader {
    icmp_type: u8,
    code: u8,
    checksum: u16,
    /// What the type makes of it, network byte order.
    word: u32,
}

/// Turns the packet in hand into the ICMP error `error` about it.
#[inline(never)]
fn send_error<F: Family>(skb: Skb, node: &Node, error: Error) -> Option<Verdict> {
    const LEN: usize = size_of::<IcmpHeader>();
    let Scratch { packet, .. } = F::Addr::scratch().ok()?;
    // Nobody is told of errors, nor of pieces that do not say whose they are (RFC 1122 §3.2.2).
    let needed = packet.l4() + 8;
    if packet.is_error() || packet.is_later_fragment() || (skb.len() as usize) < needed {
        return None;
    }
    let quote = maps::quote()?;
    // In whole words, so that the sum needs no padding, and at least as much as names the flow.
    let length = (skb.len() - ETHERNET_LEN as u32).min(Quote::LEN) & Quote::MASK;
    if length == 0 {
        return None;
    }
    skb.load(ETHERNET_LEN, quote, length)?;
    let src = match error {
        Error::PortUnreachable => packet.key.dst,
        Error::TtlExceeded | Error::TooBig => F::gateway(node),
    };
    let (icmp_type, code, word) = F::icmp_error(node, error);
    let mut header = IcmpHeader { icmp_type, code, checksum: 0, word };
    // IPv4's ICMP has no pseudo header.
    let pseudo = match F::ICMP {
        1 => 0,
        protocol => pseudo_header(src, packet.key.src, protocol, LEN + length as usize),
    };
    let quoted = skb::sum(quote, length, pseudo)?;
    header.checksum = skb::checksum(&header, LEN as u32, quoted)?;
    let l4 = turn_around::<F>(skb, packet, src, F::ICMP, LEN + length as usize)?;
    skb.write(l4, header).ok()?;
    skb.store(l4 + LEN, quote, length)?;
    Some(deliver(skb, node))
}

/// One's complement sum of the pseudo header that `length` bytes of `protocol` are summed with.
#[inline(always)]
fn pseudo_header<A: Address>(src: A, dst: A, protocol: u8, length: usize) -> u32 {
    // Both families have the same words in it, but for zeroes.
    let rest = u32::from(protocol).to_be() as u64 + u64::from((length as u32).to_be());
    add_checksums(add_checksums(src.sum(), dst.sum()), fold(rest))
}

#[inline(always)]
fn fold(sum: u64) -> u32 {
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// Cuts or stretches the packet to `length` bytes after a new IP header, which leads from `src` back to its sender, and
/// gives where they begin.
#[inline(always)]
fn turn_around<F: Family>(
    skb: Skb,
    packet: &Packet<F::Addr>,
    src: F::Addr,
    protocol: u8,
    length: usize,
) -> Option<usize> {
    let l4 = ETHERNET_LEN + size_of::<F::Header>();
    skb.resize((l4 + length) as u32)?;
    skb.write::<[Mac; 2]>(0, [packet.src_mac, Mac::GATEWAY]).ok()?;
    skb.write(ETHERNET_LEN, F::header(src, packet.key.src, protocol, length as u16)).ok()?;
    Some(l4)
}

/// Gives the packet to whoever sent it.
#[inline(always)]
fn deliver(skb: Skb, node: &Node) -> Verdict {
    count::hop(Hop::Answered);
    if skb.ifindex() == node.host_port_ifindex {
        // The host's own device is in the same namespace as its port.
        return redirect_to_ingress(node.host_ifindex);
    }
    skb.take_as_ours();
    redirect_to_peer(skb.ifindex())
}

/// What the families call an error: type, code, and the word after them.
#[inline(always)]
pub fn icmp(node: &Node, error: Error) -> (u8, u8, u32) {
    const UNREACHABLE: u8 = 3;
    match error {
        Error::PortUnreachable => (UNREACHABLE, 3, 0),
        Error::TtlExceeded => (11, 0, 0),
        Error::TooBig => (UNREACHABLE, 4, (node.overlay_mtu & 0xffff).to_be()),
    }
}

/// As [`icmp`], for ICMPv6.
#[inline(always)]
pub fn icmpv6(node: &Node, error: Error) -> (u8, u8, u32) {
    match error {
        Error::PortUnreachable => (1, 4, 0),
        Error::TtlExceeded => (3, 0, 0),
        Error::TooBig => (2, 0, node.overlay_mtu.to_be()),
    }
}
