//! What follows from earlier packets: the same again, answers to them, and errors about them.

use std::net::{IpAddr, Ipv4Addr};

use lb_dataplane::Mac;
use proptest::{
    prelude::*,
    sample::{Index, select},
};

use crate::{
    frame::{Body, Frame, Packet, Transport},
    model::Expected,
    net::{host_mac, mac, net_of},
    world::{NODE, PEER, Place, VNI},
};

/// Packets and where they went.
#[derive(Default)]
pub struct Traffic(Vec<Passed>);

struct Passed {
    /// As it was sent, and where.
    sent: (Place, Frame),
    /// As its receiver got it, and where that is: behind a place of this node, or of a tunnel end.
    got: (Place, Option<Ipv4Addr>, Packet),
}

/// What follows from a packet.
#[derive(Clone, Debug)]
pub enum Follow {
    /// The next one, with these TCP flags.
    Next { flags: Flags },
    /// An answer to it.
    Answer { flags: Flags },
    /// An error about it, that quotes this many bytes.
    Error { kind: Kind, teller: Teller, length: usize, of_another: bool },
}

/// SYN, ACK, FIN.
type Flags = (bool, bool, bool);

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    PortUnreachable,
    TooBig,
    TimeExceeded,
}

/// Who tells of an error.
#[derive(Clone, Copy, Debug)]
pub enum Teller {
    /// Who got the packet.
    Receiver,
    /// Somebody on the same way.
    OnTheWay,
    /// The host, wherever the packet went.
    Host,
    /// Somebody who cannot know of it.
    Stranger,
}

pub fn follow() -> impl Strategy<Value = Follow> {
    let flags =
        || select(vec![(true, false, false), (true, true, false), (false, true, false), (false, true, true)]);
    let kind = select(vec![Kind::PortUnreachable, Kind::TooBig, Kind::TimeExceeded]);
    let teller = prop_oneof![
        3 => Just(Teller::Receiver),
        2 => Just(Teller::OnTheWay),
        1 => Just(Teller::Host),
        1 => Just(Teller::Stranger),
    ];
    // Less than names a flow, about as much as must be there, and all of it.
    let length = prop_oneof![1 => 0..20_usize, 2 => 20..70_usize, 2 => Just(usize::MAX)];
    let error = (kind, teller, length, prop::bool::weighted(0.1))
        .prop_map(|(kind, teller, length, of_another)| Follow::Error { kind, teller, length, of_another });
    prop_oneof![
        3 => flags().prop_map(|flags| Follow::Next { flags }),
        4 => flags().prop_map(|flags| Follow::Answer { flags }),
        2 => error,
    ]
}

impl Traffic {
    /// Remembers a whole packet that reached somebody.
    pub fn add(&mut self, place: Place, frame: &Frame, expected: &Expected) {
        let Expected::Sent(_, out) = expected else { return };
        let got = match &out.body {
            Body::Ip(packet) => match place_of(packet.dst, out.dst_mac) {
                Some(place) => (place, None, packet.clone()),
                None => return,
            },
            Body::Vxlan { dst, inner, .. } => match &inner.body {
                Body::Ip(packet) => (Place::Uplink, Some(*dst), packet.clone()),
                _ => return,
            },
            _ => return,
        };
        self.0.push(Passed { sent: (place, frame.clone()), got });
    }

    /// What follows from one of the packets there were, and where it is sent.
    pub fn follow(&self, which: Index, what: &Follow) -> Option<(Place, Frame)> {
        // What was long ago is over.
        let recent = &self.0[self.0.len().saturating_sub(20)..];
        let passed = (!recent.is_empty()).then(|| which.get(recent))?;
        let (place, vtep, got) = &passed.got;
        let answer = |transport, payload| Packet {
            src: got.dst,
            dst: got.src,
            ttl: 64,
            options: vec![],
            transport,
            payload,
        };
        match what {
            Follow::Next { flags } => {
                let (place, mut frame) = passed.sent.clone();
                let packet = match &mut frame.body {
                    Body::Ip(packet) => packet,
                    Body::Vxlan { inner, .. } => match &mut inner.body {
                        Body::Ip(packet) => packet,
                        _ => return None,
                    },
                    _ => return None,
                };
                packet.transport = with_flags(packet.transport, *flags);
                Some((place, frame))
            }
            Follow::Answer { flags } => {
                let (src, dst) = got.transport.ports();
                let transport = with_flags(got.transport.with_ports(dst, src), *flags);
                let packet = answer(transport, b"as you say".to_vec());
                (src != 0).then(|| (*place, send(*place, *vtep, packet)))
            }
            Follow::Error { kind, teller, length, of_another } => {
                let mut about = got.clone();
                if *of_another {
                    let (src, dst) = about.transport.ports();
                    about.transport = about.transport.with_ports(src, dst ^ 1);
                }
                let mut quote = about.encode();
                quote.truncate(*length);
                let mut error = answer(kind.transport(got.src), quote);
                let net = net_of(got.src);
                let (place, vtep) = match teller {
                    Teller::Receiver => (*place, *vtep),
                    Teller::OnTheWay => {
                        error.src = if *place == Place::Uplink { net.far(1) } else { net.gateway };
                        (*place, *vtep)
                    }
                    Teller::Host => {
                        error.src = net.gateway;
                        (Place::HostPort, None)
                    }
                    Teller::Stranger => {
                        error.src = net.pod_b;
                        (Place::PortB, None)
                    }
                };
                Some((place, send(place, vtep, error)))
            }
        }
    }
}

impl Kind {
    /// As one of the family of `address`.
    fn transport(self, address: IpAddr) -> Transport {
        let (kind, code, info) = match (self, address.is_ipv4()) {
            (Self::PortUnreachable, true) => (3, 3, 0),
            (Self::PortUnreachable, false) => (1, 4, 0),
            (Self::TooBig, true) => (3, 4, 1_300),
            (Self::TooBig, false) => (2, 0, 1_300),
            (Self::TimeExceeded, true) => (11, 0, 0),
            (Self::TimeExceeded, false) => (3, 0, 0),
        };
        Transport::Error { kind, code, info }
    }
}

/// Where on this node a packet to `address` and `dst_mac` is received.
fn place_of(address: IpAddr, dst_mac: [u8; 6]) -> Option<Place> {
    let net = net_of(address);
    match address {
        _ if dst_mac == host_mac().0 => Some(Place::HostPort),
        pod if pod == net.pod_a => Some(Place::PortA),
        pod if pod == net.pod_b => Some(Place::PortB),
        _ => None,
    }
}

/// `packet` as it is sent at `place`, behind tunnel end `vtep`.
fn send(place: Place, vtep: Option<Ipv4Addr>, packet: Packet) -> Frame {
    let (src, dst) = (packet.src, packet.dst);
    let body = Body::Ip(packet);
    match place {
        Place::Uplink => {
            let inner = Box::new(Frame { dst_mac: mac(dst).0, src_mac: mac(src).0, body });
            let body = Body::Vxlan { src: vtep.unwrap_or(PEER), dst: NODE, vni: VNI, inner };
            Frame { dst_mac: [2; 6], src_mac: [4; 6], body }
        }
        Place::HostPort => Frame { dst_mac: Mac::GATEWAY.0, src_mac: host_mac().0, body },
        Place::PortA | Place::PortB => Frame { dst_mac: Mac::GATEWAY.0, src_mac: mac(src).0, body },
    }
}

fn with_flags(transport: Transport, (syn, ack, fin): Flags) -> Transport {
    match transport {
        Transport::Tcp { src, dst, .. } => Transport::Tcp { src, dst, syn, ack, fin },
        other => other,
    }
}
