//! What the programs must do, said in plain Rust: packets as values, tables as maps, no bytes and no kernel.
//!
//! It shares with them only the contract that all nodes must agree on: the hash and the Maglev table.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use beeline_abi::{Be16, FlowKey, Inet4, Inet6, Vni, flow_hash, source_port};
use ipnet::IpNet;
use lb_dataplane::{
    Drop, Hop, Mac,
    desired::{Affinity, Backend, BackendState, Protocol, Service, WithoutBackends},
    maglev,
};

use crate::{
    fragment::Fragment,
    frame::{Body, Frame, Packet, Transport, VXLAN_PORT},
    net::{NETS, host_mac, mac, net_of},
    world::{NODE, PEER, PLAIN, PLAIN_MAC, Place, VNI},
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

/// What is remembered of a flow.
#[derive(Clone, Debug)]
enum Memory {
    /// A request, balanced to a backend of a service.
    Request {
        origin: Origin,
        service: String,
        backend: (IpAddr, u16),
        /// Where it seems to come from, to the backend.
        source: (IpAddr, u16),
        state: State,
        gone: bool,
    },
    /// A request to a service whose DSR was off, left to the host.
    Left { origin: Origin, service: String, state: State },
    /// A reply: its source becomes `vip`, if there is one; it goes to the host if the request came from there, and to another
    /// node itself if that node's own process asked.
    Reply {
        origin: Origin,
        client: (IpAddr, u16),
        vip: Option<(IpAddr, u16)>,
        choice: Option<Choice>,
        to_host: bool,
        /// Its tunnel end, and the MAC that it sent from.
        to_node: Option<(Ipv4Addr, [u8; 6])>,
        state: State,
    },
    /// A request of another node's own process, on its way to a pod.
    Arrived { origin: Origin, state: State },
}

/// How far a TCP connection has come in one direction; of others nothing is told by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Opening,
    Established,
    HalfClosed,
    Closed,
}

impl State {
    fn first(packet: &Packet) -> Self {
        let opens = matches!(packet.transport, Transport::Tcp { syn: true, .. });
        if opens { Self::Opening } else { Self::Established }.next(packet)
    }

    fn next(self, packet: &Packet) -> Self {
        match packet.transport {
            Transport::Tcp { fin: true, .. } => self.max(Self::HalfClosed),
            Transport::Tcp { syn: false, .. } => self.max(Self::Established),
            _ => self,
        }
    }
}

impl Memory {
    /// True of what was for the replies of a connection that is over. Of one that the host forwarded, only this half's end
    /// is known.
    fn is_over(&self) -> bool {
        match *self {
            Self::Reply { vip, state, .. } => {
                state >= if vip.is_some() { State::Closed } else { State::HalfClosed }
            }
            _ => false,
        }
    }

    fn state(&mut self) -> &mut State {
        let (Self::Request { state, .. }
        | Self::Left { state, .. }
        | Self::Reply { state, .. }
        | Self::Arrived { state, .. }) = self;
        state
    }
}

pub struct Model {
    pub endpoints: HashMap<IpAddr, Place>,
    services: Vec<Service>,
    flows: HashMap<Tuple, Memory>,
    /// Ports of datagrams whose first fragment has gone on.
    fragments: HashMap<Datagram, (u16, u16)>,
    /// The backend that a client had last of a service with affinity.
    affinities: HashMap<(String, IpAddr), (IpAddr, u16)>,
}

/// Where a destination is.
enum Target {
    Pod(Place),
    Host,
    Node { vtep: Ipv4Addr, mac: Mac },
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

    /// A packet that the pod or host at `place` sends.
    fn leave(
        &mut self,
        place: Place,
        src_mac: [u8; 6],
        packet: &Packet,
        piece: Part,
    ) -> Result<Expected, Drop> {
        let tuple = tuple(packet);
        let origin = (place, None);
        let known = self.known(&tuple, origin, src_mac, packet);
        if place != Place::HostPort {
            if self.endpoints.get(&packet.src) != Some(&place) {
                return Err(Drop::ForgedSource);
            }
            if mac(packet.src).0 != src_mac {
                return Err(Drop::ForgedMac);
            }
        }
        let mut known = known;
        let state = known.as_mut().map_or(State::first(packet), |known| *known.state());
        let answers = matches!(known, Some(Memory::Reply { .. }));
        let is_known = known.is_some();
        let mut out = packet.clone();
        let mut to_host = false;
        let mut to_peer = None;
        let mut balanced = None;
        let mut left = None;
        match known {
            Some(Memory::Reply { client, vip, to_host: host, to_node, .. }) => {
                to_host = host;
                to_peer = to_node;
                if let Some(vip) = vip {
                    set_source(&mut out, vip);
                    set_destination(&mut out, client);
                }
            }
            known => match self.balance(&tuple, known, packet, piece)? {
                Balanced::No if opens(packet) => self.retire(&tuple),
                Balanced::No => {}
                Balanced::ToHost(_) if place == Place::HostPort => return Err(Drop::NoRoute),
                Balanced::ToHost(service) => {
                    to_host = true;
                    left = Some(service);
                }
                Balanced::To(service, backend) => {
                    set_destination(&mut out, backend);
                    balanced = Some((service, backend));
                }
            },
        }
        let target = match to_peer {
            _ if to_host => Target::Host,
            Some((vtep, mac)) => Target::Node { vtep, mac: Mac(mac) },
            None => self.find(out.dst, place, balanced.is_some())?,
        };
        if balanced.is_some() {
            match target {
                Target::Pod(port) if port == place => out.src = net_of(out.src).gateway,
                Target::Host if place == Place::HostPort => out.src = net_of(out.src).loopback,
                _ => {}
            }
            self.settle_source(&tuple, &mut out, is_known)?;
        }
        if matches!(target, Target::Host) && place != Place::HostPort && is_vxlan(packet, &out) {
            return Err(Drop::PodVxlan);
        }
        if !answers {
            self.remember(place, &tuple, &out, (balanced, left), &target, (state, is_known));
        }
        let routed = !matches!(target, Target::Host);
        if routed {
            out.ttl = packet.ttl.checked_sub(1).filter(|&ttl| ttl > 0).ok_or(Drop::TtlExceeded)?;
        }
        check_sctp(packet, &out, piece)?;
        Ok(match target {
            Target::Pod(_) => Expected::Sent(Hop::PortToPort, to_pod(out)),
            Target::Host => Expected::Sent(Hop::PortToHost, to_host_device(out)),
            Target::Node { vtep, mac: dst_mac } => {
                let inner = Frame { dst_mac: dst_mac.0, src_mac: mac(packet.src).0, body: Body::Ip(out) };
                // Outside, MACs are the kernel's neighbour code's to write.
                let body = Body::Vxlan { src: NODE, dst: vtep, vni: VNI, inner: Box::new(inner) };
                Expected::Sent(Hop::PortToOverlay, Frame { dst_mac: [0; 6], src_mac: [0; 6], body })
            }
        })
    }

    /// A packet from the underlay.
    fn arrive(&mut self, frame: &Frame) -> Result<Expected, Drop> {
        let Body::Vxlan { src: vtep, dst, vni, inner } = &frame.body else {
            return Ok(Expected::Next);
        };
        if *dst != NODE {
            return Ok(Expected::Next);
        }
        if *vni != VNI {
            return Err(Drop::UnknownVni);
        }
        match &inner.body {
            Body::Ip(packet) => self.arrive_inner(*vtep, inner.src_mac, packet, Part::Whole),
            Body::Fragment(fragment) => self.step_fragment(fragment, |model, packet, piece| {
                model.arrive_inner(*vtep, inner.src_mac, packet, piece)
            }),
            _ => Err(Drop::NotIp),
        }
    }

    /// A packet from the tunnel end `vtep`.
    fn arrive_inner(
        &mut self,
        vtep: Ipv4Addr,
        src_mac: [u8; 6],
        packet: &Packet,
        piece: Part,
    ) -> Result<Expected, Drop> {
        let tuple = tuple(packet);
        let origin = (Place::Uplink, Some(vtep));
        let known = self.known(&tuple, origin, src_mac, packet);
        if ![PEER, PLAIN].contains(&vtep) {
            return Err(Drop::UnknownVtep);
        }
        let from_node_itself = packet.src == IpAddr::from(vtep);
        if !from_node_itself && owner(packet.src) != Some(vtep) {
            return Err(Drop::ForgedInnerSource);
        }
        let is_reply = matches!(known, Some(Memory::Reply { .. }));
        let place = match packet.dst {
            host if host == net_of(host).gateway => Place::HostPort,
            host if host == IpAddr::from(NODE) && (is_reply || from_node_itself) => Place::HostPort,
            pod => *self.endpoints.get(&pod).ok_or(Drop::NoEndpoint)?,
        };
        let mut out = packet.clone();
        let mut to_host = place == Place::HostPort;
        if from_node_itself && to_host {
            return Err(Drop::ForgedInnerSource);
        }
        if let Some(Memory::Reply { client, vip, to_host: host, .. }) = known {
            to_host |= host;
            if let Some(vip) = vip {
                set_source(&mut out, vip);
                set_destination(&mut out, client);
            }
        } else if from_node_itself && known.is_none() {
            self.expect_reply_to((vtep, src_mac), place, &tuple, packet);
        } else if !from_node_itself {
            self.flows.remove(&tuple);
        }
        check_sctp(packet, &out, piece)?;
        Ok(if to_host {
            Expected::Sent(Hop::UplinkToHost, to_host_device(out))
        } else {
            Expected::Sent(Hop::UplinkToPort, to_pod(out))
        })
    }

    /// The pod at `place` is asked by the process of another node: what it answers goes there, past the host.
    fn expect_reply_to(&mut self, node: (Ipv4Addr, [u8; 6]), place: Place, &tuple: &Tuple, packet: &Packet) {
        let state = State::first(packet);
        self.flows.insert(tuple, Memory::Arrived { origin: (Place::Uplink, Some(node.0)), state });
        let reply = Memory::Reply {
            origin: (place, None),
            client: tuple.1,
            vip: None,
            choice: None,
            to_host: false,
            to_node: Some(node),
            state,
        };
        self.flows.insert((tuple.0, tuple.2, tuple.1), reply);
    }

    /// What is remembered of the packet's flow, if it is still its flow.
    fn known(&mut self, tuple: &Tuple, from: Origin, src_mac: [u8; 6], packet: &Packet) -> Option<Memory> {
        let from_its_mac = from.0 == Place::Uplink
            || src_mac == if from.0 == Place::HostPort { host_mac().0 } else { mac(packet.src).0 };
        let memory = self.flows.get_mut(tuple)?;
        let (Memory::Request { origin, .. }
        | Memory::Left { origin, .. }
        | Memory::Reply { origin, .. }
        | Memory::Arrived { origin, .. }) = memory;
        if *origin != from || !from_its_mac {
            return None;
        }
        let before = *memory.state();
        if opens(packet) && before != State::Opening {
            return None;
        }
        *memory.state() = before.next(packet);
        let pair = match *memory {
            Memory::Request { backend, source, .. } => Some((tuple.0, backend, source)),
            Memory::Reply { client, vip: Some(vip), .. } => Some((tuple.0, client, vip)),
            _ => None,
        };
        if before < State::HalfClosed
            && *memory.state() == State::HalfClosed
            && let Some(pair) = pair
            && let Some(other) = self.flows.get_mut(&pair)
            && *other.state() >= State::HalfClosed
        {
            *other.state() = State::Closed;
            *self.flows.get_mut(tuple)?.state() = State::Closed;
        }
        self.flows.get(tuple).cloned()
    }

    fn balance(
        &mut self,
        tuple: &Tuple,
        known: Option<Memory>,
        packet: &Packet,
        piece: Part,
    ) -> Result<Balanced, Drop> {
        use crate::frame::Transport::{Ping, Tcp};
        let &(protocol, src, dst) = tuple;
        let is_connection = matches!(known, Some(Memory::Request { .. }))
            && matches!(packet.transport, Tcp { syn, ack, .. } if !syn || ack);
        let Some(service) = self.services.iter().find(|service| {
            service.frontends.iter().any(|frontend| {
                (frontend.vip, frontend.port.get(), frontend.protocol.number()) == (dst.0, dst.1, protocol)
            })
        }) else {
            let is_vip = |service: &&Service| service.dsr && service.frontends.iter().any(|f| f.vip == dst.0);
            return match packet.transport {
                _ if is_connection => Err(Drop::BackendGone),
                Ping { .. } => Ok(Balanced::No),
                _ if self.services.iter().any(|service| is_vip(&service)) => {
                    let is_unknown = piece == Part::Later && dst.1 == 0;
                    Err(if is_unknown { Drop::FragmentWithoutFirst } else { Drop::NoFrontend })
                }
                _ => Ok(Balanced::No),
            };
        };
        if let Some(Memory::Left { service: before, .. }) = &known
            && *before == service.name
        {
            return Ok(Balanced::ToHost(before.clone()));
        }
        let takes = |b: &&Backend| is_connection || b.state == BackendState::Ready;
        if let Some(Memory::Request { service: before, backend, gone: false, .. }) = known
            && before == service.name
            && service.backends.iter().filter(takes).any(|b| (b.address, b.port.get()) == backend)
        {
            return Ok(Balanced::To(service.name.clone(), backend));
        }
        if is_connection {
            return Err(Drop::BackendGone);
        }
        if !service.dsr {
            return Ok(Balanced::ToHost(service.name.clone()));
        }
        let ready: Vec<_> =
            service.backends.iter().copied().filter(|b| b.state == BackendState::Ready).collect();
        let table = maglev::table(&ready);
        if table.is_empty() {
            return Err(match service.without_backends {
                WithoutBackends::Reject => Drop::NoBackend,
                WithoutBackends::Drop => Drop::NoLocalBackend,
            });
        }
        let client = (service.name.clone(), src.0);
        let sticks = matches!(service.affinity, Affinity::ClientIp { .. });
        if sticks
            && let Some(&last) = self.affinities.get(&client)
            && ready.iter().any(|b| (b.address, b.port.get()) == last)
        {
            return Ok(Balanced::To(service.name.clone(), last));
        }
        let Backend { address, port, .. } = ready[table[hash(tuple) as usize % table.len()] as usize];
        if sticks {
            self.affinities.insert(client, (address, port.get()));
        }
        Ok(Balanced::To(service.name.clone(), (address, port.get())))
    }

    /// A connection to `tuple`'s destination begins: what was left for the replies of one that is over is forgotten.
    fn retire(&mut self, &(protocol, src, dst): &Tuple) {
        let key = (protocol, dst, src);
        if self.flows.get(&key).is_some_and(Memory::is_over) {
            self.flows.remove(&key);
        }
    }

    /// Gives `out`, which `tuple` becomes, the source port it has, or one that no other live pair has.
    fn settle_source(&self, tuple: &Tuple, out: &mut Packet, is_known: bool) -> Result<(), Drop> {
        let backend = (out.dst, out.transport.ports().1);
        if is_known
            && let Some(&Memory::Request { backend: before, source, .. }) = self.flows.get(tuple)
            && before == backend
            && source.0 == out.src
        {
            set_source(out, source);
            return Ok(());
        }
        for attempt in 0..=6 {
            match self.flows.get(&(tuple.0, backend, (out.src, out.transport.ports().0))) {
                Some(there @ &Memory::Reply { client, vip, .. })
                    if (client, vip.unwrap_or(backend)) != (tuple.1, tuple.2) && !there.is_over() => {}
                _ => return Ok(()),
            }
            let port = of_key(tuple, |key| source_port(key, attempt), |key| source_port(key, attempt)).get();
            set_source(out, (out.src, port));
        }
        Err(Drop::NoSourcePort)
    }

    fn find(&self, dst: IpAddr, place: Place, balanced: bool) -> Result<Target, Drop> {
        if let Some(&port) = self.endpoints.get(&dst) {
            return Ok(Target::Pod(port));
        }
        if dst == net_of(dst).gateway || dst == IpAddr::from(NODE) {
            return Ok(Target::Host);
        }
        match owner(dst) {
            Some(PLAIN) => Ok(Target::Node { vtep: PLAIN, mac: PLAIN_MAC }),
            Some(vtep) => Ok(Target::Node { vtep, mac: mac(dst) }),
            None if place == Place::HostPort && !balanced => Err(Drop::NoRoute),
            None => Ok(Target::Host),
        }
    }

    fn remember(
        &mut self,
        place: Place,
        tuple: &Tuple,
        out: &Packet,
        (balanced, left): (Option<Choice>, Option<String>),
        target: &Target,
        (state, is_known): (State, bool),
    ) {
        let from_host = place == Place::HostPort;
        let vip = balanced.is_some().then_some(tuple.2);
        if balanced.is_some() || from_host {
            let origin = match target {
                Target::Pod(port) => (*port, None),
                Target::Host => (Place::HostPort, None),
                Target::Node { vtep, .. } => (Place::Uplink, Some(*vtep)),
            };
            let source = if vip.is_some() { (out.src, out.transport.ports().0) } else { tuple.1 };
            let reply = (tuple.0, (out.dst, out.transport.ports().1), source);
            let goes_to_host = match self.flows.get(&reply) {
                Some(Memory::Left { .. }) => true,
                Some(Memory::Reply { to_host, .. }) => *to_host,
                _ => false,
            };
            if vip.is_some() || !goes_to_host {
                let choice = balanced.clone();
                let state = match self.flows.get_mut(&reply) {
                    Some(there) if is_known => *there.state(),
                    _ => state,
                };
                self.flows.insert(
                    reply,
                    Memory::Reply {
                        origin,
                        client: tuple.1,
                        vip,
                        choice,
                        to_host: from_host,
                        to_node: None,
                        state,
                    },
                );
            }
        }
        if let Some((service, backend)) = balanced {
            let memory = Memory::Request {
                origin: (place, None),
                service,
                backend,
                source: (out.src, out.transport.ports().0),
                state,
                gone: false,
            };
            self.flows.insert(*tuple, memory);
        } else if let Some(service) = left {
            self.flows.insert(*tuple, Memory::Left { origin: (place, None), service, state });
        } else {
            // A plain flow takes the place of whatever had its name.
            self.flows.remove(tuple);
        }
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

/// The checksum of a part of an SCTP packet cannot follow its ports.
fn check_sctp(packet: &Packet, out: &Packet, piece: Part) -> Result<(), Drop> {
    let is_part = piece == Part::First && packet.protocol() == Protocol::Sctp.number();
    if is_part && packet.transport != out.transport { Err(Drop::SctpFragment) } else { Ok(()) }
}

enum Balanced {
    No,
    ToHost(String),
    To(String, (IpAddr, u16)),
}

/// The node whose pod `address` is.
fn owner(address: IpAddr) -> Option<Ipv4Addr> {
    let net = net_of(address);
    let is_in = |cidr: &str| cidr.parse::<IpNet>().is_ok_and(|cidr| cidr.contains(&address));
    [(net.peer_cidr, PEER), (net.plain_cidr, PLAIN)]
        .into_iter()
        .find(|(cidr, _)| is_in(cidr))
        .map(|(_, vtep)| vtep)
}

/// What `work` makes of the flow that `tuple` names.
fn of_key<T>(
    &(protocol, src, dst): &Tuple,
    v4: impl Fn(&FlowKey<Inet4>) -> T,
    v6: impl Fn(&FlowKey<Inet6>) -> T,
) -> T {
    let vni = Vni::new(VNI).unwrap();
    let (from, to) = (Be16::new(src.1), Be16::new(dst.1));
    match (src.0, dst.0) {
        (IpAddr::V4(a), IpAddr::V4(b)) => v4(&FlowKey::new(vni, protocol, (a.into(), from), (b.into(), to))),
        (IpAddr::V6(a), IpAddr::V6(b)) => v6(&FlowKey::new(vni, protocol, (a.into(), from), (b.into(), to))),
        mixed => panic!("from one family to the other: {mixed:?}"),
    }
}

fn hash(tuple: &Tuple) -> u32 {
    of_key(tuple, flow_hash, flow_hash)
}

fn to_pod(packet: Packet) -> Frame {
    Frame { dst_mac: mac(packet.dst).0, src_mac: Mac::GATEWAY.0, body: Body::Ip(packet) }
}

fn to_host_device(packet: Packet) -> Frame {
    Frame { dst_mac: host_mac().0, src_mac: Mac::GATEWAY.0, body: Body::Ip(packet) }
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

/// A pod's UDP to the VXLAN port, before or after balancing.
fn is_vxlan(packet: &Packet, out: &Packet) -> bool {
    packet.protocol() == Protocol::Udp.number()
        && [packet, out].iter().any(|packet| packet.transport.ports().1 == VXLAN_PORT)
}
