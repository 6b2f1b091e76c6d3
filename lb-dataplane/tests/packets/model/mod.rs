//! What the programs must do, said in plain Rust: packets as values, tables as maps, no bytes and no kernel.
//!
//! It shares with them only the contract that all nodes must agree on: the hash and the Maglev table.
//! [`walks`] is what becomes of a packet, [`balance`] which backend it gets, and [`flows`] what is remembered of it.

mod balance;
mod flows;
mod walks;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use lb_dataplane::{
    Drop, Hop,
    desired::{Backend, Protocol, Service},
};

use self::flows::Memory;
use crate::{
    fragment::Fragment,
    frame::{Body, Frame, Packet, Transport},
    net::NETS,
    world::Place,
};

/// What must become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Next,
    Dropped(Drop),
    Sent(Hop, Frame),
    /// Refused for this reason, which the sender is told.
    Told(Drop),
}

/// A flow's name: protocol, source, destination.
type Tuple = (u8, (IpAddr, u16), (IpAddr, u16));
/// What a fragment is of: protocol, source, destination, identification.
type Datagram = (u8, IpAddr, IpAddr, u32);
/// A service, and the backend it chose.
type Choice = (String, (IpAddr, u16));
/// Who may send a flow's packets: a place, and for the uplink the tunnel end.
type Origin = (Place, Option<Ipv4Addr>);

pub struct Model {
    pub endpoints: HashMap<IpAddr, Place>,
    services: Vec<Service>,
    flows: HashMap<Tuple, Memory>,
    /// Ports of datagrams whose first fragment has gone on.
    fragments: HashMap<Datagram, (u16, u16)>,
    /// The backend that a client had last of a service with affinity.
    affinities: HashMap<(String, IpAddr), (IpAddr, u16)>,
}

impl Model {
    pub fn new() -> Self {
        let endpoints =
            NETS.iter().flat_map(|net| [(net.pod_a, Place::PortA), (net.pod_b, Place::PortB)]).collect();
        Self {
            endpoints,
            services: Vec::new(),
            flows: HashMap::new(),
            fragments: HashMap::new(),
            affinities: HashMap::new(),
        }
    }

    /// A backend that goes takes its flows with it: if it comes back, it is another. Of TCP it is remembered that they are
    /// for nobody else.
    pub fn set_services(&mut self, services: Vec<Service>) {
        self.services = services;
        let services = &self.services;
        let has = |service: &str, &(address, port): &(IpAddr, u16)| {
            let is = |b: &Backend| (b.address, b.port.get()) == (address, port);
            services.iter().any(|candidate| candidate.name == service && candidate.backends.iter().any(is))
        };
        self.affinities.retain(|(service, _), backend| has(service, backend));
        self.flows.retain(|tuple, memory| match memory {
            Memory::Request { service, backend, gone, .. } => {
                *gone |= !has(service, backend);
                !*gone || tuple.0 == Protocol::Tcp.number()
            }
            Memory::Left { service, .. } => services.iter().any(|candidate| candidate.name == *service),
            Memory::Arrived { .. } => true,
            Memory::Reply { choice, .. } => {
                choice.as_ref().is_none_or(|(service, backend)| has(service, backend))
            }
        });
    }

    /// What must become of `frame` at `place`.
    pub fn step(&mut self, place: Place, frame: &Frame) -> Expected {
        match self.try_step(place, frame) {
            Ok(expected) => expected,
            Err(reason @ (Drop::NoBackend | Drop::NoFrontend | Drop::BackendGone | Drop::TtlExceeded))
                if is_told(frame, reason) =>
            {
                Expected::Told(reason)
            }
            Err(reason) => Expected::Dropped(reason),
        }
    }

    fn try_step(&mut self, place: Place, frame: &Frame) -> Result<Expected, Drop> {
        if place == Place::Uplink {
            return self.arrive(frame);
        }
        match &frame.body {
            Body::Ip(packet) => self.leave(place, frame.src_mac, packet, Part::Whole),
            Body::Fragment(fragment) => self.step_fragment(fragment, |model, packet, piece| {
                model.leave(place, frame.src_mac, packet, piece)
            }),
            // A pod's own VXLAN is one more UDP packet.
            Body::Vxlan { .. } => panic!("give ports plain packets"),
            Body::Other { .. } => Err(Drop::NotIp),
        }
    }

    /// A fragment takes the way of a packet with the ports of its datagram, as far as they are known.
    fn step_fragment(
        &mut self,
        fragment: &Fragment,
        step: impl FnOnce(&mut Self, &Packet, Part) -> Result<Expected, Drop>,
    ) -> Result<Expected, Drop> {
        let datagram = (fragment.protocol, fragment.src, fragment.dst, fragment.id);
        let piece = if fragment.offset == 0 { Part::First } else { Part::Later };
        let ports = match piece {
            Part::First => fragment.ports(),
            _ => self.fragments.get(&datagram).copied().unwrap_or_default(),
        };
        let packet = fragment.standing_for(ports);
        let expected = step(self, &packet, piece);
        if piece == Part::First && matches!(expected, Ok(_) | Err(Drop::TtlExceeded | Drop::SctpFragment)) {
            self.fragments.insert(datagram, ports);
        }
        Ok(expected?.map(|out| fragment.changed_to(&out)))
    }
}

/// Whether the sender of `frame`, refused for `reason`, is told: not of fragments that do not say whose they are, and no
/// part of a TCP connection is reset.
fn is_told(frame: &Frame, reason: Drop) -> bool {
    match &frame.body {
        Body::Fragment(fragment) => {
            let is_tcp = fragment.protocol == Protocol::Tcp.number();
            fragment.offset == 0 && (!is_tcp || reason == Drop::TtlExceeded)
        }
        _ => true,
    }
}

/// The first packet of a TCP connection.
fn opens(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { syn: true, ack: false, .. })
}

/// What of a packet there is.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Whole,
    First,
    Later,
}

impl Expected {
    /// The same, with another packet in it.
    fn map(self, change: impl FnOnce(Packet) -> Body) -> Self {
        let Self::Sent(hop, mut frame) = self else {
            return self;
        };
        frame.body = match frame.body {
            Body::Ip(packet) => change(packet),
            Body::Vxlan { src, dst, vni, inner } => {
                let Body::Ip(packet) = inner.body else { panic!("{inner:?}") };
                let inner = Box::new(Frame { body: change(packet), ..*inner });
                Body::Vxlan { src, dst, vni, inner }
            }
            other => panic!("{other:?}"),
        };
        Self::Sent(hop, frame)
    }
}

fn tuple(packet: &Packet) -> Tuple {
    let (src, dst) = packet.transport.ports();
    (packet.protocol(), (packet.src, src), (packet.dst, dst))
}

fn set_source(packet: &mut Packet, (address, port): (IpAddr, u16)) {
    packet.src = address;
    packet.transport = packet.transport.with_ports(port, packet.transport.ports().1);
}

fn set_destination(packet: &mut Packet, (address, port): (IpAddr, u16)) {
    packet.dst = address;
    packet.transport = packet.transport.with_ports(packet.transport.ports().0, port);
}
