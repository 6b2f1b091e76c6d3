//! Answers as values: what the sender of a refused packet is told, taken apart with every checksum verified.

use std::net::IpAddr;

use etherparse::{Icmpv4Header, Icmpv6Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader};
use lb_dataplane::{Drop, Mac};

use crate::{
    fragment::Fragment,
    frame::{Body, Frame, Packet, Transport},
    net::net_of,
};

/// A packet that was turned around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub dst_mac: [u8; 6],
    pub src_mac: [u8; 6],
    pub src: IpAddr,
    pub dst: IpAddr,
    pub told: Told,
}

/// What its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Reset {
        src: u16,
        dst: u16,
        seq: u32,
        ack: Option<u32>,
    },
    /// Type, code, the word after them, and what was quoted.
    Error {
        icmp_type: u8,
        code: u8,
        word: u32,
        quote: Vec<u8>,
    },
}

/// Bytes that are quoted at most, in whole words.
const QUOTE: usize = 508;

impl Answer {
    /// What must be said to the sender of `frame`, whose packet was refused: a reset of TCP, port unreachable of others.
    pub fn refusal(frame: &Frame) -> Self {
        let (src, dst) = ends(frame);
        let unreachable = || {
            let (icmp_type, code) = if src.is_ipv4() { (3, 3) } else { (1, 4) };
            Told::Error { icmp_type, code, word: 0, quote: quote(frame) }
        };
        let Body::Ip(packet) = &frame.body else {
            return Self::from(dst, frame, unreachable());
        };
        let told = match packet.transport {
            Transport::Tcp { src, dst, ack: true, .. } => {
                // The acknowledgement number that the test's frames have.
                Told::Reset { src: dst, dst: src, seq: 0, ack: None }
            }
            Transport::Tcp { src, dst, syn, fin, .. } => {
                let length = packet.payload.len() + usize::from(syn) + usize::from(fin);
                // 1000 is the sequence number that the test's frames have.
                let ack = 1000 + u32::try_from(length).unwrap();
                Told::Reset { src: dst, dst: src, seq: 0, ack: Some(ack) }
            }
            _ => unreachable(),
        };
        Self::from(dst, frame, told)
    }

    /// What must be said to the sender of `frame`, which was refused for `reason`.
    pub fn to(frame: &Frame, reason: Drop) -> Self {
        match reason {
            Drop::TtlExceeded => Self::ttl_exceeded(frame),
            _ => Self::refusal(frame),
        }
    }

    /// Its time to live ran out.
    pub fn ttl_exceeded(frame: &Frame) -> Self {
        let (src, _) = ends(frame);
        let icmp_type = if src.is_ipv4() { 11 } else { 3 };
        Self::error(net_of(src).gateway, frame, icmp_type, 0, 0)
    }

    /// It is larger than the overlay carries.
    pub fn too_big(frame: &Frame, mtu: u32) -> Self {
        let (src, _) = ends(frame);
        let (icmp_type, code) = if src.is_ipv4() { (3, 4) } else { (2, 0) };
        Self::error(net_of(src).gateway, frame, icmp_type, code, mtu)
    }

    /// An ICMP error about `frame`, which `src` sends.
    pub fn error(src: IpAddr, frame: &Frame, icmp_type: u8, code: u8, word: u32) -> Self {
        Self::from(src, frame, Told::Error { icmp_type, code, word, quote: quote(frame) })
    }

    fn from(src: IpAddr, frame: &Frame, told: Told) -> Self {
        Self { dst_mac: frame.src_mac, src_mac: Mac::GATEWAY.0, src, dst: ends(frame).0, told }
    }

    /// A wrong length or checksum is an error, and so is anything that is no answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (ethernet, rest) = bytes.split_at_checked(14).ok_or("shorter than an Ethernet header")?;
        let mac = |at: usize| ethernet[at..at + 6].try_into().unwrap();
        let (src, dst, told) = match ethernet[12..] {
            [0x08, 0x00] => {
                let (ip, rest) = Ipv4Header::from_slice(rest).map_err(|e| e.to_string())?;
                same("IP checksum", ip.header_checksum, ip.calc_header_checksum())?;
                same("IP length", usize::from(ip.total_len), ip.header_len() + rest.len())?;
                same("TTL", ip.time_to_live, 64)?;
                (ip.source.into(), ip.destination.into(), told_by_ipv4(&ip, rest)?)
            }
            [0x86, 0xdd] => {
                let (ip, rest) = Ipv6Header::from_slice(rest).map_err(|e| e.to_string())?;
                same("IP length", usize::from(ip.payload_length), rest.len())?;
                same("hop limit", ip.hop_limit, 64)?;
                (ip.source.into(), ip.destination.into(), told_by_ipv6(&ip, rest)?)
            }
            ref other => return Err(format!("Ethernet type {other:?}")),
        };
        Ok(Self { dst_mac: mac(0), src_mac: mac(6), src, dst, told })
    }
}

fn told_by_ipv4(ip: &Ipv4Header, rest: &[u8]) -> Result<Told, String> {
    if ip.protocol == IpNumber::TCP {
        let (tcp, payload) = TcpHeader::from_slice(rest).map_err(|e| e.to_string())?;
        let checksum = tcp.calc_checksum_ipv4(ip, payload).map_err(|e| e.to_string())?;
        return reset(&tcp, checksum, payload);
    }
    let (icmp, quote) = Icmpv4Header::from_slice(rest).map_err(|e| e.to_string())?;
    same("protocol", ip.protocol, IpNumber::ICMP)?;
    same("ICMP checksum", icmp.checksum, icmp.icmp_type.calc_checksum(quote))?;
    Ok(error(rest, quote))
}

fn told_by_ipv6(ip: &Ipv6Header, rest: &[u8]) -> Result<Told, String> {
    if ip.next_header == IpNumber::TCP {
        let (tcp, payload) = TcpHeader::from_slice(rest).map_err(|e| e.to_string())?;
        let checksum = tcp.calc_checksum_ipv6(ip, payload).map_err(|e| e.to_string())?;
        return reset(&tcp, checksum, payload);
    }
    let (icmp, quote) = Icmpv6Header::from_slice(rest).map_err(|e| e.to_string())?;
    same("protocol", ip.next_header, IpNumber::IPV6_ICMP)?;
    let checksum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, quote);
    same("ICMPv6 checksum", icmp.checksum, checksum.map_err(|e| e.to_string())?)?;
    Ok(error(rest, quote))
}

fn reset(tcp: &TcpHeader, checksum: u16, payload: &[u8]) -> Result<Told, String> {
    same("TCP checksum", tcp.checksum, checksum)?;
    same("payload", payload.len(), 0)?;
    if !tcp.rst || tcp.syn || tcp.fin || tcp.psh {
        return Err(format!("no reset: {tcp:?}"));
    }
    let ack = tcp.ack.then_some(tcp.acknowledgment_number);
    Ok(Told::Reset { src: tcp.source_port, dst: tcp.destination_port, seq: tcp.sequence_number, ack })
}

fn error(bytes: &[u8], quote: &[u8]) -> Told {
    let word = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
    Told::Error { icmp_type: bytes[0], code: bytes[1], word, quote: quote.to_vec() }
}

/// Source and destination of the packet or fragment that a port sent.
fn ends(frame: &Frame) -> (IpAddr, IpAddr) {
    match &frame.body {
        Body::Ip(Packet { src, dst, .. }) | Body::Fragment(Fragment { src, dst, .. }) => (*src, *dst),
        other => panic!("not IP: {other:?}"),
    }
}

/// What is quoted of `frame`.
fn quote(frame: &Frame) -> Vec<u8> {
    let bytes = &frame.encode()[14..];
    bytes[..bytes.len().min(QUOTE) / 4 * 4].to_vec()
}

fn same<T: PartialEq + std::fmt::Debug + Copy>(what: &str, found: T, right: T) -> Result<(), String> {
    if found == right { Ok(()) } else { Err(format!("{what} is {found:?}, not {right:?}")) }
}
