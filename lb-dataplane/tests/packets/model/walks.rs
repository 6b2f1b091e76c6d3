//! The walks of a packet: from a port, and from the overlay.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use lb_dataplane::{Drop, Hop, Mac, desired::Protocol};

use super::{
    Choice, Expected, Model, Part,
    flows::{Decision, Memory, Role, State},
    set_destination, set_source, tuple,
};
use crate::{
    frame::{Body, Frame, Packet, VXLAN_PORT},
    net::{host_mac, mac, net_of},
    world::{NODE, PEER, PLAIN, PLAIN_MAC, Place, VNI},
};

/// Where a destination is.
pub(super) enum Target {
    Pod(Place),
    Host,
    Node { vtep: Ipv4Addr, mac: Mac },
}

impl Model {
    /// A packet that the pod or host at `place` sends.
    pub(super) fn leave(
        &mut self,
        place: Place,
        src_mac: [u8; 6],
        packet: &Packet,
        piece: Part,
    ) -> Result<Expected, Drop> {
        let tuple = tuple(packet);
        let found = self.known(&tuple, (place, None), src_mac, packet);
        if place != Place::HostPort {
            if self.endpoints.get(&packet.src) != Some(&place) {
                return Err(Drop::ForgedSource);
            }
            if mac(packet.src).0 != src_mac {
                return Err(Drop::ForgedMac);
            }
        }
        let is_current = found.as_ref().is_some_and(|found| found.is_current);
        let known = found.map(|found| found.memory).filter(|memory| self.holds(memory));
        let state = known.as_ref().map_or(State::first(packet), |known| known.state);
        let mut out = packet.clone();
        let mut to_host = false;
        let mut to_peer = None;
        let mut choice = Choice::None;
        let answers = known.as_ref().is_some_and(Memory::is_reply);
        if let Some(Memory { role: Role::Reply { client, vip, node, .. }, to_host: host, .. }) = &known {
            to_host = *host;
            to_peer = *node;
            if let Some(vip) = vip {
                set_source(&mut out, *vip);
                set_destination(&mut out, *client);
            }
        } else {
            choice = self.balance(&tuple, known.as_ref(), packet, piece)?;
            match &choice {
                Choice::ToHost(_) if place == Place::HostPort => return Err(Drop::NoRoute),
                Choice::ToHost(_) => to_host = true,
                Choice::Backend(_, backend) => set_destination(&mut out, *backend),
                Choice::None | Choice::Gone => {}
            }
        }
        let is_balanced = choice.backend().is_some();
        let target = match to_peer {
            _ if to_host => Target::Host,
            Some((vtep, mac)) => Target::Node { vtep, mac: Mac(mac) },
            None => self.find(out.dst, place, is_balanced)?,
        };
        if !answers && !to_host {
            match target {
                Target::Pod(port) if is_balanced && port == place => out.src = net_of(out.src).gateway,
                Target::Host if is_balanced && place == Place::HostPort => {
                    out.src = net_of(out.src).loopback;
                }
                _ => {}
            }
            self.settle_source(packet, &mut out, known.as_ref(), &choice, piece)?;
        }
        if matches!(target, Target::Host) && place != Place::HostPort && is_vxlan(packet, &out) {
            return Err(Drop::PodVxlan);
        }
        if answers {
            self.confirm(&tuple);
        } else if !is_current {
            let is_known = known.is_some();
            self.remember(packet, &out, Decision { place, choice, target: &target, state, is_known });
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
    pub(super) fn arrive(&mut self, frame: &Frame) -> Result<Expected, Drop> {
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
            Body::Ip(packet) => {
                let origin = (Place::Uplink, Some(*vtep));
                self.step_packet(packet, origin, inner.src_mac, |model, packet, piece| {
                    model.arrive_inner(*vtep, inner.src_mac, packet, piece)
                })
            }
            Body::Fragment(fragment) => self.step_fragment(fragment, |model, packet, piece| {
                model.arrive_inner(*vtep, inner.src_mac, packet, piece)
            }),
            _ => Err(Drop::NotIp),
        }
    }

    /// A packet from the tunnel end `vtep`.
    pub(super) fn arrive_inner(
        &mut self,
        vtep: Ipv4Addr,
        src_mac: [u8; 6],
        packet: &Packet,
        piece: Part,
    ) -> Result<Expected, Drop> {
        let tuple = tuple(packet);
        let origin = (Place::Uplink, Some(vtep));
        let found = self.known(&tuple, origin, src_mac, packet);
        if ![PEER, PLAIN].contains(&vtep) {
            return Err(Drop::UnknownVtep);
        }
        let from_node_itself = packet.src == IpAddr::from(vtep);
        if !from_node_itself && owner(packet.src) != Some(vtep) {
            return Err(Drop::ForgedInnerSource);
        }
        let was_found = found.is_some();
        let is_current = found.as_ref().is_some_and(|found| found.is_current);
        let known = found.map(|found| found.memory).filter(|memory| self.holds(memory));
        let is_reply = known.as_ref().is_some_and(Memory::is_reply);
        let place = match packet.dst {
            // Decided for what the host forwards, whose addresses are anybody's.
            _ if is_current && known.as_ref().is_some_and(|reply| reply.is_reply() && reply.to_host) => {
                Place::HostPort
            }
            host if host == net_of(host).gateway => Place::HostPort,
            host if host == IpAddr::from(NODE) && (is_reply || from_node_itself) => Place::HostPort,
            pod => *self.endpoints.get(&pod).ok_or(Drop::NoEndpoint)?,
        };
        let mut out = packet.clone();
        let mut to_host = place == Place::HostPort;
        if from_node_itself && to_host {
            return Err(Drop::ForgedInnerSource);
        }
        if let Some(Memory { role: Role::Reply { client, vip, .. }, to_host: host, .. }) = known {
            to_host |= host;
            if let Some(vip) = vip {
                set_source(&mut out, vip);
                set_destination(&mut out, client);
            }
            self.confirm(&tuple);
        } else if !is_current {
            let itself = from_node_itself.then_some(src_mac);
            self.remember_arrival((vtep, itself), place, packet, was_found);
        }
        check_sctp(packet, &out, piece)?;
        Ok(if to_host {
            Expected::Sent(Hop::UplinkToHost, to_host_device(out))
        } else {
            Expected::Sent(Hop::UplinkToPort, to_pod(out))
        })
    }

    pub(super) fn find(&self, dst: IpAddr, place: Place, balanced: bool) -> Result<Target, Drop> {
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
}

/// The checksum of a part of an SCTP packet cannot follow its ports.
pub(super) fn check_sctp(packet: &Packet, out: &Packet, piece: Part) -> Result<(), Drop> {
    let is_part = piece == Part::First && packet.protocol() == Protocol::Sctp.number();
    if is_part && packet.transport != out.transport { Err(Drop::SctpFragment) } else { Ok(()) }
}

/// The node whose pod `address` is.
pub(super) fn owner(address: IpAddr) -> Option<Ipv4Addr> {
    let net = net_of(address);
    let is_in = |cidr: &str| cidr.parse::<IpNet>().is_ok_and(|cidr| cidr.contains(&address));
    [(net.peer_cidr, PEER), (net.plain_cidr, PLAIN)]
        .into_iter()
        .find(|(cidr, _)| is_in(cidr))
        .map(|(_, vtep)| vtep)
}

pub(super) fn to_pod(packet: Packet) -> Frame {
    Frame { dst_mac: mac(packet.dst).0, src_mac: Mac::GATEWAY.0, body: Body::Ip(packet) }
}

pub(super) fn to_host_device(packet: Packet) -> Frame {
    Frame { dst_mac: host_mac().0, src_mac: Mac::GATEWAY.0, body: Body::Ip(packet) }
}

/// A pod's UDP to the VXLAN port, before or after balancing.
pub(super) fn is_vxlan(packet: &Packet, out: &Packet) -> bool {
    packet.protocol() == Protocol::Udp.number()
        && [packet, out].iter().any(|packet| packet.transport.ports().1 == VXLAN_PORT)
}
