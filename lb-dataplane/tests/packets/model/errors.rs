//! ICMP errors: whose they are, and what becomes of what they quote.

use std::net::IpAddr;

use lb_dataplane::{Drop, desired::Protocol};

use super::{Expected, Model, Origin, Part, Tuple, walks::owner};
use crate::{
    frame::{Body, Packet, Transport},
    world::Place,
};

/// What an error quotes.
struct Quote {
    protocol: u8,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    /// Byte at which its transport header begins.
    at: usize,
}

impl Model {
    /// An error takes the way of the packets that answer the one it quotes, if it comes from where they do; else its own.
    pub(super) fn step_packet(
        &mut self,
        packet: &Packet,
        from: Origin,
        src_mac: [u8; 6],
        step: impl FnOnce(&mut Self, &Packet, Part) -> Result<Expected, Drop>,
    ) -> Result<Expected, Drop> {
        let Some((quote, tuple)) = self.related(packet, from, src_mac) else {
            return step(self, packet, Part::Whole);
        };
        let (from, to) = (tuple.1.1, tuple.2.1);
        let transport = match Protocol::from_number(tuple.0) {
            Some(Protocol::Tcp) => Transport::Tcp { src: from, dst: to, syn: false, ack: false, fin: false },
            Some(Protocol::Udp) => Transport::Udp { src: from, dst: to, checksum: true },
            _ => Transport::Sctp { src: from, dst: to, checksum: true },
        };
        let stands_for =
            Packet { src: tuple.1.0, options: vec![], transport, payload: vec![], ..packet.clone() };
        let expected = step(self, &stands_for, Part::Error)?;
        Ok(expected.map(|out| Body::Ip(translated(packet, &quote, stands_for.src, &out))))
    }

    /// What the error `packet` quotes, and the flow it belongs to.
    fn related(&self, packet: &Packet, from: Origin, src_mac: [u8; 6]) -> Option<(Quote, Tuple)> {
        let Transport::Error { .. } = packet.transport else { return None };
        let quote = Quote::read(&packet.payload, packet.src.is_ipv4())?;
        let tuple = (quote.protocol, quote.dst, quote.src);
        let may_speak = match from {
            (Place::Uplink, vtep) => owner(packet.src) == vtep,
            (place, _) => place == Place::HostPort,
        };
        let is_its = quote.src.0 == packet.dst
            && (quote.dst.0 == packet.src || may_speak)
            && self.flows.get(&tuple)?.comes_from(from, src_mac, quote.dst.0);
        is_its.then_some((quote, tuple))
    }
}

impl Quote {
    fn read(bytes: &[u8], is_ipv4: bool) -> Option<Self> {
        let (protocol, src, dst, at) = if is_ipv4 {
            let header = bytes.first_chunk::<20>()?;
            let address = |at: usize| Some(IpAddr::from(*header[at..].first_chunk::<4>()?));
            if header[6] & 0x1f != 0 || header[7] != 0 {
                return None;
            }
            (header[9], address(12)?, address(16)?, usize::from(header[0] & 0xf) * 4)
        } else {
            let header = bytes.first_chunk::<40>()?;
            let address = |at: usize| Some(IpAddr::from(*header[at..].first_chunk::<16>()?));
            (header[6], address(8)?, address(24)?, 40)
        };
        Protocol::from_number(protocol)?;
        let &[a, b, c, d] = bytes.get(at..)?.first_chunk::<4>()?;
        let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(Self { protocol, src: (src, ports.0), dst: (dst, ports.1), at })
    }
}

/// The error `packet`, of a flow from `source` whose packets become like `out`: the receiver finds its own packet quoted. Who
/// tells of it stays who it is, unless it is the flow's own sender.
fn translated(packet: &Packet, quote: &Quote, source: IpAddr, out: &Packet) -> Packet {
    let mut told = packet.clone();
    (told.dst, told.ttl) = (out.dst, out.ttl);
    if packet.src == source {
        told.src = out.src;
    }
    // Quoted is a packet that went the other way.
    let (dst_port, src_port) = out.transport.ports();
    let ports = [src_port, dst_port].map(u16::to_be_bytes).concat();
    let bytes = &mut told.payload;
    let addresses = if let (IpAddr::V4(src), IpAddr::V4(dst)) = (out.dst, out.src) {
        (12..20, [src.octets(), dst.octets()].concat())
    } else {
        let octets = |address| if let IpAddr::V6(v6) = address { v6.octets() } else { panic!("{address}") };
        (8..40, [octets(out.dst), octets(out.src)].concat())
    };
    let before = [&bytes[addresses.0.clone()], &bytes[quote.at..quote.at + 4]].concat();
    let after = [&addresses.1[..], &ports].concat();
    if out.dst.is_ipv4() {
        mend(bytes, 10, &before[..8], &after[..8]);
    }
    bytes[addresses.0].copy_from_slice(&addresses.1);
    bytes[quote.at..quote.at + 4].copy_from_slice(&ports);
    match Protocol::from_number(quote.protocol) {
        Some(Protocol::Tcp) => mend(bytes, quote.at + 16, &before, &after),
        Some(Protocol::Udp) if bytes.get(quote.at + 6..quote.at + 8) != Some(&[0, 0]) => {
            mend(bytes, quote.at + 6, &before, &after);
            // 0 would mean "none" (RFC 768).
            if let Some(sum @ [0, 0]) = bytes.get_mut(quote.at + 6..quote.at + 8) {
                sum.fill(0xff);
            }
        }
        _ => {}
    }
    told
}

/// Mends the checksum at byte `at` of `bytes`, if it is there, where `before` becomes `after` (RFC 1624, equation 3).
fn mend(bytes: &mut [u8], at: usize, before: &[u8], after: &[u8]) {
    let Some(&mut [a, b]) = bytes.get_mut(at..at + 2) else { return };
    let words = |bytes: &[u8]| -> Vec<u16> {
        bytes.as_chunks::<2>().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect()
    };
    let mut sum = u32::from(!u16::from_be_bytes([a, b]));
    sum += words(before).iter().map(|&word| u32::from(!word)).sum::<u32>();
    sum += words(after).iter().map(|&word| u32::from(word)).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[at..at + 2].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
}
