//! Frames as values: built from parts with every checksum right, and taken apart with every checksum verified.
//!
//! Written with `etherparse`, which knows nothing of the programs under test.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    EtherType, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header,
    Ipv4Options, Ipv6Header, TcpHeader, UdpHeader,
};

use crate::{chain, fragment::Fragment};

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub dst_mac: [u8; 6],
    pub src_mac: [u8; 6],
    pub body: Body,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Ip(Packet),
    Fragment(Fragment),
    Vxlan { src: Ipv4Addr, dst: Ipv4Addr, vni: u32, inner: Box<Frame> },
    Other { ethertype: u16, bytes: Vec<u8> },
}

/// An IP packet of either family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Hop limit, in IPv6.
    pub ttl: u8,
    /// IPv4's options, in whole words; IPv6's extension headers, as [`chain`] has them.
    pub options: Vec<u8>,
    pub transport: Transport,
    pub payload: Vec<u8>,
}

/// A transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp {
        src: u16,
        dst: u16,
        syn: bool,
        ack: bool,
        fin: bool,
    },
    /// `checksum: false` leaves the field 0, which means "none".
    Udp {
        src: u16,
        dst: u16,
        checksum: bool,
    },
    /// `checksum: false` leaves the field 0, for a device to fill in.
    Sctp {
        src: u16,
        dst: u16,
        checksum: bool,
    },
    Ping {
        id: u16,
    },
    /// An ICMP error of either family. The payload is what it quotes of the packet that it is about.
    Error {
        kind: u8,
        code: u8,
        /// The rest of its header, such as an MTU.
        info: u32,
    },
}

/// UDP port of VXLAN in these tests.
pub const VXLAN_PORT: u16 = 4789;

impl Transport {
    /// Source and destination port; zeroes where there are none.
    pub fn ports(self) -> (u16, u16) {
        match self {
            Self::Tcp { src, dst, .. } | Self::Udp { src, dst, .. } | Self::Sctp { src, dst, .. } => {
                (src, dst)
            }
            Self::Ping { .. } | Self::Error { .. } => (0, 0),
        }
    }

    /// The same with other ports.
    pub fn with_ports(self, src: u16, dst: u16) -> Self {
        match self {
            Self::Tcp { syn, ack, fin, .. } => Self::Tcp { src, dst, syn, ack, fin },
            Self::Udp { checksum, .. } => Self::Udp { src, dst, checksum },
            Self::Sctp { checksum, .. } => Self::Sctp { src, dst, checksum },
            icmp @ (Self::Ping { .. } | Self::Error { .. }) => icmp,
        }
    }
}

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.dst_mac, self.src_mac].concat();
        match &self.body {
            Body::Ip(packet) => {
                let ethertype = if packet.src.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
                bytes.extend(ethertype.0.to_be_bytes());
                bytes.extend(packet.encode());
            }
            Body::Fragment(fragment) => {
                let ethertype = if fragment.src.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
                bytes.extend(ethertype.0.to_be_bytes());
                bytes.extend(fragment.encode());
            }
            Body::Vxlan { src, dst, vni, inner } => {
                bytes.extend(0x0800_u16.to_be_bytes());
                let mut payload = vec![0x08, 0, 0, 0];
                payload.extend((vni << 8).to_be_bytes());
                payload.extend(inner.encode());
                let transport = Transport::Udp { src: 55555, dst: VXLAN_PORT, checksum: false };
                let (src, dst) = ((*src).into(), (*dst).into());
                let packet = Packet { src, dst, ttl: 64, options: vec![], transport, payload };
                bytes.extend(packet.encode());
            }
            Body::Other { ethertype, bytes: body } => {
                bytes.extend(ethertype.to_be_bytes());
                bytes.extend(body);
            }
        }
        bytes
    }

    /// Takes a frame apart; a wrong length or checksum anywhere is an error. UDP to the VXLAN port with a
    /// well-formed VXLAN header is taken apart too.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (header, rest) = bytes.split_at_checked(14).ok_or("shorter than an Ethernet header")?;
        let mac = |at: usize| header[at..at + 6].try_into().map_err(|_| "no MAC");
        let ethertype = u16::from_be_bytes([header[12], header[13]]);
        let version = match EtherType(ethertype) {
            EtherType::IPV4 => Some(4),
            EtherType::IPV6 => Some(6),
            _ => None,
        };
        let body = if let Some(version) = version {
            if rest.first().is_none_or(|byte| byte >> 4 != version) {
                return Err(format!("Ethernet type {ethertype:#06x} before another family"));
            }
            if let Some(fragment) = Fragment::decode(rest)? {
                Body::Fragment(fragment)
            } else {
                let packet = Packet::decode(rest)?;
                vxlan(&packet)?.unwrap_or(Body::Ip(packet))
            }
        } else {
            Body::Other { ethertype, bytes: rest.to_vec() }
        };
        Ok(Self { dst_mac: mac(0)?, src_mac: mac(6)?, body })
    }
}

fn vxlan(packet: &Packet) -> Result<Option<Body>, String> {
    let Transport::Udp { src: src_port, dst: VXLAN_PORT, checksum } = packet.transport else {
        return Ok(None);
    };
    let Some((&[0x08, 0, 0, 0, a, b, c, 0], inner)) = packet.payload.split_first_chunk::<8>() else {
        return Ok(None);
    };
    if checksum {
        return Err("outer UDP checksum present".into());
    }
    if src_port < 0xc000 {
        return Err(format!("outer source port {src_port} is not in the dynamic range"));
    }
    if packet.ttl != 64 {
        return Err(format!("outer TTL {}", packet.ttl));
    }
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (packet.src, packet.dst) else {
        return Err("the underlay is IPv4".into());
    };
    let vni = u32::from_be_bytes([0, a, b, c]);
    let inner = Box::new(Frame::decode(inner)?);
    Ok(Some(Body::Vxlan { src, dst, vni, inner }))
}

impl Packet {
    /// IP protocol number.
    pub fn protocol(&self) -> u8 {
        match (self.transport, self.src) {
            (Transport::Tcp { .. }, _) => 6,
            (Transport::Udp { .. }, _) => 17,
            (Transport::Sctp { .. }, _) => 132,
            (Transport::Ping { .. } | Transport::Error { .. }, IpAddr::V4(_)) => 1,
            (Transport::Ping { .. } | Transport::Error { .. }, IpAddr::V6(_)) => 58,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut transport = self.encode_transport();
        transport.extend(&self.payload);
        let length = u16::try_from(transport.len()).unwrap();
        let mut bytes = Vec::new();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let protocol = IpNumber(self.protocol());
                let mut ip = Ipv4Header::new(length, self.ttl, protocol, src.octets(), dst.octets()).unwrap();
                ip.options = Ipv4Options::try_from(self.options.as_slice()).unwrap();
                ip.set_payload_len(length.into()).unwrap();
                ip.header_checksum = ip.calc_header_checksum();
                ip.write_raw(&mut bytes).unwrap();
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let (first, chain) = chain::encode(&self.options, self.protocol());
                let ip = Ipv6Header {
                    payload_length: length + u16::try_from(chain.len()).unwrap(),
                    next_header: IpNumber(first),
                    hop_limit: self.ttl,
                    source: src.octets(),
                    destination: dst.octets(),
                    ..Ipv6Header::default()
                };
                ip.write(&mut bytes).unwrap();
                bytes.extend(chain);
            }
            mixed => panic!("from one family to the other: {mixed:?}"),
        }
        bytes.extend(transport);
        bytes
    }

    fn encode_transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ends = Ends::new(self.src, self.dst);
        match self.transport {
            Transport::Tcp { src: from, dst: to, syn, ack, fin } => {
                let mut tcp = TcpHeader::new(from, to, 1000, 64_000);
                (tcp.syn, tcp.ack, tcp.fin) = (syn, ack, fin);
                tcp.checksum = ends.tcp_checksum(&tcp, &self.payload);
                tcp.write(&mut bytes).unwrap();
            }
            Transport::Udp { src: from, dst: to, checksum } => {
                let mut udp = UdpHeader::without_ipv4_checksum(from, to, self.payload.len()).unwrap();
                if checksum {
                    udp.checksum = ends.udp_checksum(&udp, &self.payload);
                }
                udp.write(&mut bytes).unwrap();
            }
            Transport::Sctp { src, dst, checksum } => {
                bytes.extend([src, dst].map(u16::to_be_bytes).concat());
                bytes.extend(0xbee5_u32.to_be_bytes());
                bytes.extend([0; 4]);
                if checksum {
                    let crc = crc32c(&[&bytes, &self.payload[..]].concat());
                    bytes[8..].copy_from_slice(&crc.to_le_bytes());
                }
            }
            Transport::Ping { id } => bytes.extend(self.encode_icmp(
                &ends,
                Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: 1 }),
                Icmpv6Type::EchoRequest(IcmpEchoHeader { id, seq: 1 }),
            )),
            Transport::Error { kind: type_u8, code: code_u8, info } => {
                let bytes5to8 = info.to_be_bytes();
                bytes.extend(self.encode_icmp(
                    &ends,
                    Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 },
                    Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 },
                ));
            }
        }
        bytes
    }

    fn encode_icmp(&self, ends: &Ends, v4: Icmpv4Type, v6: Icmpv6Type) -> Vec<u8> {
        match *ends {
            Ends::V4(..) => Icmpv4Header::with_checksum(v4, &self.payload).to_bytes().to_vec(),
            Ends::V6(src, dst) => {
                Icmpv6Header::with_checksum(v6, src, dst, &self.payload).unwrap().to_bytes().to_vec()
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (protocol, src, dst, ttl, options, rest) = if bytes[0] >> 4 == 4 {
            let (ip, rest) = Ipv4Header::from_slice(bytes).map_err(|e| e.to_string())?;
            if ip.header_checksum != ip.calc_header_checksum() {
                return Err("wrong IP checksum".into());
            }
            if usize::from(ip.total_len) != bytes.len() {
                return Err(format!("IP length {} of {} bytes", ip.total_len, bytes.len()));
            }
            let (src, dst) = (IpAddr::from(ip.source), IpAddr::from(ip.destination));
            (ip.protocol.0, src, dst, ip.time_to_live, ip.options.as_slice().to_vec(), rest)
        } else {
            let (ip, rest) = Ipv6Header::from_slice(bytes).map_err(|e| e.to_string())?;
            if usize::from(ip.payload_length) != rest.len() {
                return Err(format!("IP length {} of {} bytes", ip.payload_length, rest.len()));
            }
            let (src, dst) = (IpAddr::from(ip.source), IpAddr::from(ip.destination));
            let (options, protocol, rest) = chain::decode(ip.next_header.0, rest)?;
            (protocol, src, dst, ip.hop_limit, options, rest)
        };
        Ok(Self { options, ..Self::whole(src, dst, ttl, protocol, rest)? })
    }

    /// The packet whose transport header and payload are `bytes`.
    pub fn whole(src: IpAddr, dst: IpAddr, ttl: u8, protocol: u8, bytes: &[u8]) -> Result<Self, String> {
        let (transport, payload) = decode_transport(protocol, &Ends::new(src, dst), bytes)?;
        Ok(Self { src, dst, ttl, options: Vec::new(), transport, payload: payload.to_vec() })
    }
}

fn decode_transport<'a>(protocol: u8, ends: &Ends, bytes: &'a [u8]) -> Result<(Transport, &'a [u8]), String> {
    match protocol {
        6 => {
            let (tcp, payload) = TcpHeader::from_slice(bytes).map_err(|e| e.to_string())?;
            if ends.tcp_checksum(&tcp, payload) != tcp.checksum {
                return Err("wrong TCP checksum".into());
            }
            let TcpHeader { source_port: src, destination_port: dst, syn, ack, fin, .. } = tcp;
            Ok((Transport::Tcp { src, dst, syn, ack, fin }, payload))
        }
        17 => {
            let (udp, payload) = UdpHeader::from_slice(bytes).map_err(|e| e.to_string())?;
            if usize::from(udp.length) != bytes.len() {
                return Err(format!("UDP length {} of {} bytes", udp.length, bytes.len()));
            }
            if udp.checksum != 0 && ends.udp_checksum(&udp, payload) != udp.checksum {
                return Err("wrong UDP checksum".into());
            }
            let (src, dst, checksum) = (udp.source_port, udp.destination_port, udp.checksum != 0);
            Ok((Transport::Udp { src, dst, checksum }, payload))
        }
        1 => {
            let (icmp, payload) = Icmpv4Header::from_slice(bytes).map_err(|e| e.to_string())?;
            if icmp.icmp_type.calc_checksum(payload) != icmp.checksum {
                return Err("wrong ICMP checksum".into());
            }
            let transport = match icmp.icmp_type {
                Icmpv4Type::EchoRequest(echo) => Transport::Ping { id: echo.id },
                _ => error(&icmp.to_bytes()),
            };
            Ok((transport, payload))
        }
        58 => {
            let (icmp, payload) = Icmpv6Header::from_slice(bytes).map_err(|e| e.to_string())?;
            let &Ends::V6(src, dst) = ends else {
                return Err("ICMPv6 in IPv4".into());
            };
            if icmp.icmp_type.calc_checksum(src, dst, payload) != Ok(icmp.checksum) {
                return Err("wrong ICMPv6 checksum".into());
            }
            let transport = match icmp.icmp_type {
                Icmpv6Type::EchoRequest(echo) => Transport::Ping { id: echo.id },
                _ => error(&icmp.to_bytes()),
            };
            Ok((transport, payload))
        }
        132 => {
            let (&header, payload) = bytes.split_first_chunk::<12>().ok_or("shorter than an SCTP header")?;
            let [a, b, c, d, 0, 0, 0xbe, 0xe5, sum @ ..] = header else {
                return Err("another verification tag".into());
            };
            let mut cleared = bytes.to_vec();
            cleared[8..12].fill(0);
            let sum = u32::from_le_bytes(sum);
            if sum != 0 && sum != crc32c(&cleared) {
                return Err("wrong SCTP checksum".into());
            }
            let (src, dst) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            Ok((Transport::Sctp { src, dst, checksum: sum != 0 }, payload))
        }
        other => Err(format!("protocol {other}")),
    }
}

/// An ICMP error by its header.
fn error(header: &[u8]) -> Transport {
    Transport::Error {
        kind: header[0],
        code: header[1],
        info: u32::from_be_bytes(header[4..8].try_into().unwrap()),
    }
}

/// As RFC 9260's appendix A defines it, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// Both addresses, for the pseudo header of checksums.
enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

impl Ends {
    fn new(src: IpAddr, dst: IpAddr) -> Self {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Self::V4(src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Self::V6(src.octets(), dst.octets()),
            mixed => panic!("from one family to the other: {mixed:?}"),
        }
    }

    fn tcp_checksum(&self, tcp: &TcpHeader, payload: &[u8]) -> u16 {
        match *self {
            Self::V4(src, dst) => tcp.calc_checksum_ipv4_raw(src, dst, payload).unwrap(),
            Self::V6(src, dst) => tcp.calc_checksum_ipv6_raw(src, dst, payload).unwrap(),
        }
    }

    fn udp_checksum(&self, udp: &UdpHeader, payload: &[u8]) -> u16 {
        match *self {
            Self::V4(src, dst) => udp.calc_checksum_ipv4_raw(src, dst, payload).unwrap(),
            Self::V6(src, dst) => udp.calc_checksum_ipv6_raw(src, dst, payload).unwrap(),
        }
    }
}
