//! Flows: what is remembered of them, and whether it still holds.

use std::net::{IpAddr, Ipv4Addr};

use beeline_abi::source_port;
use lb_dataplane::Drop;

use super::{Choice, Model, Origin, Tuple, balance::of_key, opens, set_source, walks::Target};
use crate::{
    frame::{Packet, Transport},
    net::{host_mac, mac},
    world::Place,
};

/// What is remembered of a flow.
#[derive(Clone, Debug)]
pub(super) enum Memory {
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

    pub(super) fn next(self, packet: &Packet) -> Self {
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
    pub(super) fn is_over(&self) -> bool {
        match *self {
            Self::Reply { vip, state, .. } => {
                state >= if vip.is_some() { State::Closed } else { State::HalfClosed }
            }
            _ => false,
        }
    }

    pub(super) fn state(&mut self) -> &mut State {
        let (Self::Request { state, .. }
        | Self::Left { state, .. }
        | Self::Reply { state, .. }
        | Self::Arrived { state, .. }) = self;
        state
    }
}

impl Model {
    /// The pod at `place` is asked by the process of another node: what it answers goes there, past the host.
    pub(super) fn expect_reply_to(
        &mut self,
        node: (Ipv4Addr, [u8; 6]),
        place: Place,
        &tuple: &Tuple,
        packet: &Packet,
    ) {
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
    pub(super) fn known(
        &mut self,
        tuple: &Tuple,
        from: Origin,
        src_mac: [u8; 6],
        packet: &Packet,
    ) -> Option<Memory> {
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

    /// A connection to `tuple`'s destination begins: what was left for the replies of one that is over is forgotten.
    pub(super) fn retire(&mut self, &(protocol, src, dst): &Tuple) {
        let key = (protocol, dst, src);
        if self.flows.get(&key).is_some_and(Memory::is_over) {
            self.flows.remove(&key);
        }
    }

    /// Gives `out`, which `tuple` becomes, the source port it has, or one that no other live pair has.
    pub(super) fn settle_source(&self, tuple: &Tuple, out: &mut Packet, is_known: bool) -> Result<(), Drop> {
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

    pub(super) fn remember(
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
