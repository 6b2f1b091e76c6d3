//! Flows: what is remembered of them, and whether it still holds.

use std::net::{IpAddr, Ipv4Addr};

use beeline_abi::source_port;
use lb_dataplane::{Drop, desired::Protocol};

use super::{Choice, Model, Origin, Part, Tuple, balance::of_key, opens, set_source, walks::Target};
use crate::{
    frame::{Packet, Transport, VXLAN_PORT},
    net::{host_mac, mac},
    world::Place,
};

/// Idle time to live of a flow that no service has a say in, in seconds.
const TTL: u64 = 240;

/// What is remembered of a flow.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    origin: Origin,
    pub(super) state: State,
    /// When its last packet came, in seconds.
    seen: u64,
    /// How long nothing may be heard of it, in seconds, if it is not TCP.
    ttl: u64,
    /// How many changes there had been when it was decided.
    epoch: u64,
    /// Whether its packets go to the host's own stack.
    pub(super) to_host: bool,
    pub(super) role: Role,
}

/// What a flow is to others.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// It began here: a request, or whatever else was sent first.
    First {
        /// Where it seems to come from, to its receiver.
        source: (IpAddr, u16),
        choice: Choice,
    },
    /// A reply: its source becomes `vip`, if there is one, and it goes to the client.
    Reply {
        client: (IpAddr, u16),
        vip: Option<(IpAddr, u16)>,
        choice: Choice,
        /// The port of the client, if it is a pod of this node.
        port: Option<Place>,
        /// If the client is another node's own process: its tunnel end, and the MAC that it sent from.
        node: Option<(Ipv4Addr, [u8; 6])>,
    },
}

/// How far a TCP connection has come in one direction; of others nothing is told by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Opening,
    Established,
    HalfClosed,
    Closed,
}

impl State {
    pub(super) fn first(packet: &Packet) -> Self {
        let opens = matches!(packet.transport, Transport::Tcp { syn: true, .. });
        if opens { Self::Opening } else { Self::Established }.next(packet)
    }

    fn next(self, packet: &Packet) -> Self {
        match packet.transport {
            Transport::Tcp { fin: true, .. } => self.max(Self::HalfClosed),
            Transport::Tcp { syn: false, ack: true, .. } => self.max(Self::Established),
            _ => self,
        }
    }
}

/// A flow that a packet is of.
pub(super) struct Known {
    pub(super) memory: Memory,
    /// Nothing has changed, and no time has passed, since it was decided.
    pub(super) is_current: bool,
}

/// What was decided for a packet that a port sends.
pub(super) struct Decision<'a> {
    pub(super) place: Place,
    pub(super) choice: Choice,
    pub(super) target: &'a Target,
    pub(super) state: State,
    pub(super) is_known: bool,
}

impl Memory {
    pub(super) fn choice(&mut self) -> &mut Choice {
        let (Role::First { choice, .. } | Role::Reply { choice, .. }) = &mut self.role;
        choice
    }

    pub(super) fn is_reply(&self) -> bool {
        matches!(self.role, Role::Reply { .. })
    }

    /// True if the packets of this flow, which are from `source`, come from there.
    pub(super) fn comes_from(&self, from: Origin, src_mac: [u8; 6], source: IpAddr) -> bool {
        let own_mac = if from.0 == Place::HostPort { host_mac() } else { mac(source) };
        self.origin == from && (from.0 == Place::Uplink || src_mac == own_mac.0)
    }

    fn ttl(&self, protocol: u8) -> u64 {
        match self.state {
            _ if protocol != Protocol::Tcp.number() => self.ttl,
            State::Opening => 70,
            State::Established => 24 * 3600,
            State::HalfClosed => 3600,
            State::Closed => 10,
        }
    }

    fn is_alive(&self, protocol: u8, now: u64) -> bool {
        let (Role::First { choice, .. } | Role::Reply { choice, .. }) = &self.role;
        self.state != State::Closed && now - self.seen <= self.ttl(protocol) && *choice != Choice::Gone
    }

    /// The name of the other half of the pair that this one, named `tuple`, is of.
    fn other_half(&self, tuple: &Tuple) -> Option<Tuple> {
        match &self.role {
            Role::First { source, choice: Choice::Backend(_, backend) } => Some((tuple.0, *backend, *source)),
            Role::First { source, .. } if *source != tuple.1 => Some((tuple.0, tuple.2, *source)),
            Role::Reply { client, vip: Some(vip), .. } => Some((tuple.0, *client, *vip)),
            _ => None,
        }
    }
}

impl Model {
    /// What is remembered of the packet's flow, if it is still its flow.
    pub(super) fn known(
        &mut self,
        tuple: &Tuple,
        from: Origin,
        src_mac: [u8; 6],
        packet: &Packet,
    ) -> Option<Known> {
        let (now, epoch) = (self.now, self.epoch);
        let memory = self.flows.get_mut(tuple)?;
        let before = memory.state;
        let idle = now - memory.seen;
        if !memory.comes_from(from, src_mac, packet.src)
            || opens(packet) && before != State::Opening
            || idle > memory.ttl(tuple.0)
        {
            return None;
        }
        let is_current = memory.epoch == epoch && (idle == 0 || memory.is_reply());
        memory.seen = now;
        memory.state = before.next(packet);
        if before < State::HalfClosed
            && memory.state == State::HalfClosed
            && let Some(pair) = memory.other_half(tuple)
            && let Some(other) = self.flows.get_mut(&pair)
            && other.state >= State::HalfClosed
        {
            other.state = State::Closed;
            self.flows.get_mut(tuple)?.state = State::Closed;
        }
        Some(Known { memory: self.flows.get(tuple)?.clone(), is_current })
    }

    /// True unless `memory` is of a reply whose backend is gone, or whose client is another pod by now.
    pub(super) fn holds(&self, memory: &Memory) -> bool {
        match &memory.role {
            Role::First { .. } => true,
            Role::Reply { client, choice, port, .. } => {
                let is_there = |port: &Place| self.endpoints.get(&client.0) == Some(port);
                *choice != Choice::Gone && port.as_ref().is_none_or(is_there)
            }
        }
    }

    /// Gives `out`, which `packet` becomes, the source port it has, or one that no other live pair has.
    pub(super) fn settle_source(
        &mut self,
        packet: &Packet,
        out: &mut Packet,
        known: Option<&Memory>,
        choice: &Choice,
        piece: Part,
    ) -> Result<(), Drop> {
        let tuple = &super::tuple(packet);
        if let Some(Memory { role: Role::First { source, choice: before }, .. }) = known
            && choice.backend() == before.backend()
            && *before != Choice::Gone
            && source.0 == out.src
        {
            set_source(out, *source);
            return Ok(());
        }
        let is_tcp = tuple.0 == Protocol::Tcp.number();
        let is_piece = matches!(piece, Part::First | Part::Later);
        let is_begun = choice.backend().is_none() && (is_piece || is_tcp && !opens(packet));
        if is_begun || piece == Part::Later || Protocol::from_number(tuple.0).is_none() {
            return Ok(());
        }
        for attempt in 0..=6 {
            if self.is_free(tuple, out) {
                return Ok(());
            }
            let port = of_key(tuple, |key| source_port(key, attempt), |key| source_port(key, attempt)).get();
            set_source(out, (out.src, port));
        }
        Err(Drop::NoSourcePort)
    }

    /// True if `out`, which a packet named `tuple` becomes, is like no packet of another live pair. What is over is
    /// forgotten.
    fn is_free(&mut self, tuple: &Tuple, out: &Packet) -> bool {
        let now = self.now;
        let wire @ (protocol, source, destination) = super::tuple(out);
        let answered = (protocol, destination, source);
        if let Some(there) = self.flows.get(&answered)
            && let Role::Reply { client, vip, .. } = there.role
        {
            // Of one that the host forwarded, only the end of this half is known.
            let is_half_over = vip.is_none() && there.state >= State::HalfClosed;
            if is_half_over || !there.is_alive(protocol, now) {
                self.flows.remove(&answered);
            } else if (client, vip.unwrap_or(destination)) != (tuple.1, tuple.2) {
                return false;
            }
        }
        wire == *tuple
            || self.flows.get(&wire).is_none_or(|there| match &there.role {
                Role::First { choice: Choice::None | Choice::ToHost(_), .. } => {
                    !there.is_alive(protocol, now)
                }
                _ => true,
            })
    }

    /// Remembers what was decided for `packet`, which becomes `out`.
    pub(super) fn remember(&mut self, packet: &Packet, out: &Packet, decision: Decision<'_>) {
        let Decision { place, choice, target, state, is_known } = decision;
        let tuple = super::tuple(packet);
        let (protocol, source, destination) = super::tuple(out);
        let from_host = place == Place::HostPort;
        let is_changed = choice.backend().is_some() || source.1 != tuple.1.1;
        let ttl = self.ttl_of(&choice);
        let reply = (protocol, destination, source);
        let is_vxlan = from_host && protocol == Protocol::Udp.number() && source.1 == VXLAN_PORT;
        // What the host answers comes to it already.
        let is_answer = from_host && !is_changed && self.flows.get(&reply).is_some_and(|there| there.to_host);
        if (is_changed || from_host) && !is_vxlan && !is_answer {
            let role = Role::Reply {
                client: tuple.1,
                vip: is_changed.then_some(tuple.2),
                choice: choice.clone(),
                port: (!from_host).then_some(place),
                node: None,
            };
            let there = self.flows.get(&reply).filter(|_| is_known);
            let state = there.map_or(state, |there| there.state);
            let origin = match target {
                Target::Pod(port) => (*port, None),
                Target::Host => (Place::HostPort, None),
                Target::Node { vtep, .. } => (Place::Uplink, Some(*vtep)),
            };
            self.keep(reply, origin, state, ttl, from_host, role);
        }
        let to_host = matches!(target, Target::Host);
        self.keep(tuple, (place, None), state, ttl, to_host, Role::First { source, choice });
    }

    /// Remembers a packet that comes from the overlay. If it is from the node itself, what the pod at `place` answers goes
    /// there, past the host.
    pub(super) fn remember_arrival(
        &mut self,
        (vtep, itself): (Ipv4Addr, Option<[u8; 6]>),
        place: Place,
        packet: &Packet,
        was_found: bool,
    ) {
        let tuple = super::tuple(packet);
        let state = State::first(packet);
        if let Some(mac) = itself {
            let reply = (tuple.0, tuple.2, tuple.1);
            let there = self.flows.get(&reply).filter(|_| was_found);
            // The pod may have begun a flow of its own by this name.
            if there.is_none_or(Memory::is_reply) {
                let state = there.map_or(state, |there| there.state);
                let node = Some((vtep, mac));
                let role = Role::Reply { client: tuple.1, vip: None, choice: Choice::None, port: None, node };
                self.keep(reply, (place, None), state, TTL, false, role);
            }
        }
        let role = Role::First { source: tuple.1, choice: Choice::None };
        self.keep(tuple, (Place::Uplink, Some(vtep)), state, TTL, place == Place::HostPort, role);
    }

    /// A reply was looked at again, and holds.
    pub(super) fn confirm(&mut self, tuple: &Tuple) {
        let epoch = self.epoch;
        self.flows.entry(*tuple).and_modify(|memory| memory.epoch = epoch);
    }

    fn keep(&mut self, tuple: Tuple, origin: Origin, state: State, ttl: u64, to_host: bool, role: Role) {
        let (seen, epoch) = (self.now, self.epoch);
        self.flows.insert(tuple, Memory { origin, state, seen, ttl, epoch, to_host, role });
    }

    fn ttl_of(&self, choice: &Choice) -> u64 {
        let (Choice::Backend(name, _) | Choice::ToHost(name)) = choice else { return TTL };
        let service = self.services.iter().find(|service| service.name == *name);
        service.map_or(TTL, |service| service.flow_ttl.as_secs())
    }
}
