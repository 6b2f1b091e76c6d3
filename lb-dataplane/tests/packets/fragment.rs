//! Fragments as values, cut out of whole packets and put together again.

use std::net::IpAddr;

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header};

use crate::{
    chain,
    frame::{Body, Frame, Packet, Transport},
};

/// A fragment of an IP packet of either family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    /// As in a packet; of IPv4 none.
    pub options: Vec<u8>,
    pub protocol: u8,
    pub id: u32,
    /// In units of eight bytes.
    pub offset: u16,
    pub more: bool,
    /// This part of the packet, without its IP header.
    pub bytes: Vec<u8>,
}

impl Fragment {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let fragment_offset: IpFragOffset = self.offset.try_into().unwrap();
        let length = u16::try_from(self.bytes.len()).unwrap();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let protocol = IpNumber(self.protocol);
                let mut ip = Ipv4Header::new(length, self.ttl, protocol, src.octets(), dst.octets()).unwrap();
                ip.identification = u16::try_from(self.id).unwrap();
                ip.fragment_offset = fragment_offset;
                ip.more_fragments = self.more;
                ip.dont_fragment = false;
                ip.header_checksum = ip.calc_header_checksum();
                ip.write_raw(&mut bytes).unwrap();
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let (first, chain) = chain::encode(&self.options, chain::FRAGMENT);
                let headers = u16::try_from(chain.len() + Ipv6FragmentHeader::LEN).unwrap();
                let ip = Ipv6Header {
                    payload_length: length + headers,
                    next_header: IpNumber(first),
                    hop_limit: self.ttl,
                    source: src.octets(),
                    destination: dst.octets(),
                    ..Ipv6Header::default()
                };
                ip.write(&mut bytes).unwrap();
                bytes.extend(chain);
                let protocol = IpNumber(self.protocol);
                let fragment = Ipv6FragmentHeader::new(protocol, fragment_offset, self.more, self.id);
                fragment.write(&mut bytes).unwrap();
            }
            mixed => panic!("from one family to the other: {mixed:?}"),
        }
        bytes.extend(&self.bytes);
        bytes
    }

    /// `None` if the packet is no fragment.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, String> {
        if bytes[0] >> 4 == 4 {
            let (ip, rest) = Ipv4Header::from_slice(bytes).map_err(|e| e.to_string())?;
            if ip.fragment_offset.value() == 0 && !ip.more_fragments {
                return Ok(None);
            }
            if ip.header_checksum != ip.calc_header_checksum() || usize::from(ip.total_len) != bytes.len() {
                return Err("wrong IP checksum or length of a fragment".into());
            }
            return Ok(Some(Self {
                src: ip.source.into(),
                dst: ip.destination.into(),
                ttl: ip.time_to_live,
                options: vec![],
                protocol: ip.protocol.0,
                id: ip.identification.into(),
                offset: ip.fragment_offset.value(),
                more: ip.more_fragments,
                bytes: rest.to_vec(),
            }));
        }
        let (ip, rest) = Ipv6Header::from_slice(bytes).map_err(|e| e.to_string())?;
        if usize::from(ip.payload_length) != rest.len() {
            return Err(format!("IP length {} of {} bytes", ip.payload_length, rest.len()));
        }
        let (options, next, rest) = chain::decode(ip.next_header.0, rest)?;
        if next != chain::FRAGMENT {
            return Ok(None);
        }
        let (fragment, rest) = Ipv6FragmentHeader::from_slice(rest).map_err(|e| e.to_string())?;
        Ok(Some(Self {
            src: ip.source.into(),
            dst: ip.destination.into(),
            ttl: ip.hop_limit,
            options,
            protocol: fragment.next_header.0,
            id: fragment.identification,
            offset: fragment.fragment_offset.value(),
            more: fragment.more_fragments,
            bytes: rest.to_vec(),
        }))
    }
}

impl Fragment {
    /// The ports of a first fragment.
    pub fn ports(&self) -> (u16, u16) {
        match (self.protocol, &self.bytes[..]) {
            (6 | 17 | 132, [a, b, c, d, ..]) => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
            _ => (0, 0),
        }
    }

    /// A packet with this one's addresses, protocol, and TCP flags, and with `ports`.
    pub fn standing_for(&self, (src, dst): (u16, u16)) -> Packet {
        let flags = if self.offset == 0 && self.protocol == 6 { self.bytes[13] } else { 0x10 };
        let transport = match self.protocol {
            6 => {
                let has = |flag| flags & flag != 0;
                Transport::Tcp { src, dst, fin: has(0x01), syn: has(0x02), ack: has(0x10) }
            }
            17 => Transport::Udp { src, dst, checksum: true },
            132 => Transport::Sctp { src, dst, checksum: true },
            _ => Transport::Ping { id: 0 },
        };
        let Self { src, dst, ttl, .. } = *self;
        Packet { src, dst, ttl, options: vec![], transport, payload: vec![] }
    }

    /// This fragment after what was done to the packet that stands for it, with no checksum: that is of bytes that other
    /// fragments have.
    pub fn changed_to(&self, packet: &Packet) -> Body {
        let mut changed = Self { src: packet.src, dst: packet.dst, ttl: packet.ttl, ..self.clone() };
        if self.offset == 0 && matches!(self.protocol, 6 | 17 | 132) {
            let (src, dst) = packet.transport.ports();
            changed.bytes[..4].copy_from_slice(&[src, dst].map(u16::to_be_bytes).concat());
        }
        changed.without_checksum();
        Body::Fragment(changed)
    }

    fn without_checksum(&mut self) {
        let checksum = match self.protocol {
            6 => 16..18,
            17 => 6..8,
            _ => return,
        };
        if self.offset == 0 {
            self.bytes[checksum].fill(0);
        }
    }
}

/// Takes the transport checksum out of a first fragment.
pub fn without_checksum(frame: &mut Frame) {
    match &mut frame.body {
        Body::Fragment(fragment) => fragment.without_checksum(),
        Body::Vxlan { inner, .. } => without_checksum(inner),
        _ => {}
    }
}

/// `frame`, a packet on its own or in VXLAN, as fragments of datagram `id` of which each but the last has `8 * step`
/// bytes.
pub fn cut(frame: &Frame, id: u32, step: usize) -> Vec<Frame> {
    match &frame.body {
        Body::Ip(packet) => {
            let header = if packet.src.is_ipv4() { 20 } else { 40 };
            let whole = packet.encode();
            let rest = &whole[header + packet.options.len()..];
            let pieces = rest.chunks(8 * step).enumerate().map(|(n, bytes)| Fragment {
                src: packet.src,
                dst: packet.dst,
                ttl: packet.ttl,
                options: packet.options.clone(),
                protocol: packet.protocol(),
                id,
                offset: u16::try_from(n * step).unwrap(),
                more: n * step * 8 + bytes.len() < rest.len(),
                bytes: bytes.to_vec(),
            });
            pieces.map(|piece| Frame { body: Body::Fragment(piece), ..frame.clone() }).collect()
        }
        Body::Vxlan { src, dst, vni, inner } => {
            let wrap = |inner| Body::Vxlan { src: *src, dst: *dst, vni: *vni, inner: Box::new(inner) };
            let pieces = cut(inner, id, step).into_iter().map(wrap);
            pieces.map(|body| Frame { body, ..frame.clone() }).collect()
        }
        other => panic!("{other:?} has no fragments"),
    }
}

/// The frame that was cut into `frames`, which must be of one datagram, go one way, and be in order.
pub fn put_together(frames: &[Frame]) -> Frame {
    let first = &frames[0];
    assert!(frames.iter().all(|frame| (frame.dst_mac, frame.src_mac) == (first.dst_mac, first.src_mac)));
    let body = match &first.body {
        Body::Fragment(of) => {
            let mut rest = Vec::new();
            for frame in frames {
                let Body::Fragment(fragment) = &frame.body else { panic!("{frame:?} is no fragment") };
                let same = |f: &Fragment| (f.src, f.dst, f.ttl, f.protocol, f.id, f.options.clone());
                assert_eq!(same(of), same(fragment), "of another datagram");
                assert_eq!(usize::from(fragment.offset) * 8, rest.len(), "a gap before {fragment:?}");
                rest.extend(&fragment.bytes);
            }
            let whole = Packet::whole(of.src, of.dst, of.ttl, of.protocol, &rest);
            Body::Ip(Packet { options: of.options.clone(), ..whole.unwrap() })
        }
        Body::Vxlan { src, dst, vni, .. } => {
            let inner = |frame: &Frame| match &frame.body {
                Body::Vxlan { src: s, dst: d, inner, .. } if (s, d) == (src, dst) => (**inner).clone(),
                other => panic!("{other:?} goes another way"),
            };
            let inner = put_together(&frames.iter().map(inner).collect::<Vec<_>>());
            Body::Vxlan { src: *src, dst: *dst, vni: *vni, inner: Box::new(inner) }
        }
        other => panic!("{other:?} is no fragment"),
    };
    Frame { body, ..first.clone() }
}
