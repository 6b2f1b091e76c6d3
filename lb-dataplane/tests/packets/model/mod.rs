//! What the programs must do, said in plain Rust: packets as values, tables as maps, no bytes and no kernel.
//!
//! It shares with them only the contract that all nodes must agree on: the hash and the Maglev table.
//! [`walks`] is what becomes of a packet, [`balance`] which backend it gets, [`flows`] what is remembered of it, and [`errors`]
//! what is told about it. Time is a number of seconds, which passes when the test says so.

mod balance;
mod errors;
mod flows;
mod walks;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use lb_dataplane::{
    Drop, Hop,
    desired::{Protocol, Service},
};

use self::{balance::is_at, flows::Memory};
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
/// What was chosen for a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    /// No service has a say in it.
    None,
    /// A backend of this service.
    Backend(String, (IpAddr, u16)),
    /// A backend that is gone.
    Gone,
    /// To leave it to the host: DSR is off for this service.
    ToHost(String),
}

/// Who may send a flow's packets: a place, and for the uplink the tunnel end.
type Origin = (Place, Option<Ipv4Addr>);

pub struct Model {
    pub endpoints: HashMap<IpAddr, Place>,
    services: Vec<Service>,
    flows: HashMap<Tuple, Memory>,
    /// Ports of datagrams whose first fragment has gone on, and when.
    fragments: HashMap<Datagram, ((u16, u16), u64)>,
    /// The backend that a client had last of a service with affinity, and when.
    affinities: HashMap<(String, IpAddr), ((IpAddr, u16), u64)>,
    /// Seconds that have passed.
    now: u64,
    /// Changes there have been.
    epoch: u64,
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
            now: 0,
            epoch: 0,
        }
    }

    /// Time passes.
    pub fn wait(&mut self, seconds: u64) {
        self.now += seconds;
    }

    /// Something has changed, and what was decided before is to be looked at again.
    pub fn change(&mut self) {
        self.epoch += 1;
    }

    /// A backend that goes is gone for its flows: if it comes back, it is another.
    pub fn set_services(&mut self, services: Vec<Service>) {
        self.services = services;
        let find = |name: &str| self.services.iter().find(|candidate| candidate.name == name);
        let has =
            |name: &str, at| find(name).is_some_and(|service| service.backends.iter().any(|b| is_at(b, at)));
        self.affinities.retain(|(name, _), (backend, _)| has(name, *backend));
        for memory in self.flows.values_mut() {
            let choice = memory.choice();
            match choice {
                Choice::Backend(name, backend) if !has(name, *backend) => *choice = Choice::Gone,
                Choice::ToHost(name) if find(name).is_none() => *choice = Choice::None,
                _ => {}
            }
        }
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
            Body::Ip(packet) => {
                self.step_packet(packet, (place, None), frame.src_mac, |model, packet, piece| {
                    model.leave(place, frame.src_mac, packet, piece)
                })
            }
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
            _ => match self.fragments.get(&datagram) {
                // As long as Linux waits for the fragments of a datagram.
                Some((ports, seen)) if self.now - seen < 30 => *ports,
                _ => (0, 0),
            },
        };
        let packet = fragment.standing_for(ports);
        let expected = step(self, &packet, piece);
        if piece == Part::First && matches!(expected, Ok(_) | Err(Drop::TtlExceeded | Drop::SctpFragment)) {
            self.fragments.insert(datagram, (ports, self.now));
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
        // Nobody is told of errors about errors.
        Body::Ip(packet) => !matches!(packet.transport, Transport::Error { .. }),
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
    /// An ICMP error about a flow, as one of its packets.
    Error,
}

impl Choice {
    fn backend(&self) -> Option<(&str, (IpAddr, u16))> {
        if let Self::Backend(service, backend) = self { Some((service, *backend)) } else { None }
    }
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
