//! The steps of a sequence: what may come from anywhere, whether anybody asked for it or not.

use std::net::{IpAddr, Ipv4Addr};

use lb_dataplane::{Mac, desired::Service};
use proptest::{
    prelude::*,
    sample::{Index, select},
};

use super::{
    services::{BALANCED, EMPTY, FAR, OFF, PORT_SCTP, PORT_TCP, PORT_UDP, SCTP, TCP, TWIN, UDP, services},
    traffic::{Follow, follow},
};
use crate::{
    clock::UNIT,
    fragment::cut,
    frame::{Body, Frame, Packet, Transport},
    net::{IPV4, IPV6, NETS, Net, host_mac, mac},
    world::{NODE, PEER, PLAIN, Place, VNI},
};

/// Ports that are no backend's.
const DIRECT: [u16; 3] = [9000, 9001, 4789];
const CLIENT: [u16; 4] = [40_000, 40_001, 40_002, 40_003];
/// Times that pass, in seconds: some within every time to live, some longer than those of fragments, of connections that
/// open or are over, of flows that are no connections, and of one that is half over.
const TIMES: [u64; 5] = [UNIT, 3 * UNIT, 7 * UNIT, 24 * UNIT, 330 * UNIT];

/// One step of a sequence.
#[derive(Clone, Debug)]
pub enum Step {
    Packet(Place, Frame),
    /// Fragments of one packet, in any order.
    Fragments(Place, Vec<Frame>),
    /// What follows from an earlier packet.
    Follow(Index, Follow),
    Services(Vec<Service>),
    /// One of the backends there are is about to end, or is well again.
    Turn(Index),
    Endpoint(IpAddr, bool),
    /// This many seconds.
    Wait(u64),
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => net().prop_flat_map(leaving),
        12 => net().prop_flat_map(arriving),
        32 => (any::<Index>(), follow()).prop_map(|(which, what)| Step::Follow(which, what)),
        8 => net().prop_flat_map(leaving).prop_flat_map(in_fragments),
        5 => net().prop_flat_map(arriving).prop_flat_map(in_fragments),
        1 => (services(&IPV4), services(&IPV6)).prop_map(|(v4, v6)| Step::Services([v4, v6].concat())),
        2 => any::<Index>().prop_map(Step::Turn),
        3 => select(TIMES.to_vec()).prop_map(Step::Wait),
        1 => (net(), any::<bool>(), prop::bool::weighted(0.7)).prop_map(|(net, first, on)| {
            Step::Endpoint(if first { net.pod_a } else { net.pod_b }, on)
        }),
    ]
}

/// A packet's fragments, of a few datagrams' identifications only, in any order, and perhaps not all.
fn in_fragments(step: Step) -> impl Strategy<Value = Step> {
    let Step::Packet(place, mut frame) = step else { panic!("{step:?}") };
    let packet = match &mut frame.body {
        Body::Ip(packet) => packet,
        Body::Vxlan { inner, .. } => match &mut inner.body {
            Body::Ip(packet) => packet,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    packet.options.clear();
    packet.payload.resize(70, 7);
    // Enough for the part of a header that is read.
    (1..6_u32, 3..5_usize).prop_flat_map(move |(id, step)| {
        let pieces = cut(&frame, id, step);
        let number = pieces.len();
        let shuffled =
            prop_oneof![2 => Just(pieces.clone()).boxed(), 1 => Just(pieces).prop_shuffle().boxed()];
        (shuffled, 1..=number)
            .prop_map(move |(pieces, number)| Step::Fragments(place, pieces[..number].to_vec()))
    })
}

fn net() -> impl Strategy<Value = &'static Net> {
    select(NETS.to_vec())
}

/// What ports send: requests, replies, and what nobody asked for.
fn leaving(net: &'static Net) -> impl Strategy<Value = Step> {
    let place = select(vec![Place::PortA, Place::PortB, Place::HostPort]);
    let mut destinations: Vec<_> =
        [TCP, TCP, UDP, UDP, SCTP, OFF, EMPTY, TWIN, TWIN, FAR, BALANCED, BALANCED]
            .map(|n| net.vip(n))
            .into();
    destinations.extend([net.pod_a, net.pod_b, net.pod_c, net.pod_d, net.gateway, net.outside]);
    destinations.extend(net.underlay.iter().take(2));
    let dst = select(destinations);
    let forged = prop::option::weighted(0.05, select(vec![net.pod_a, net.pod_b, net.pod_c, net.gateway]));
    let forged_mac = prop::bool::weighted(0.03);
    // A process of the node asks from its place in the overlay, or from its underlay address.
    let host = select([net.gateway; 2].into_iter().chain(net.underlay.first().copied()).collect::<Vec<_>>());
    (place, host, dst, forged, forged_mac, transport(), ttl(), options(net), payload()).prop_map(
        |(place, host, dst, forged, forged_mac, transport, ttl, options, payload)| {
            let (own, own_mac) = match place {
                Place::PortA => (net.pod_a, mac(net.pod_a)),
                Place::PortB => (net.pod_b, mac(net.pod_b)),
                _ => (host, host_mac()),
            };
            // The host forwards for others, and pods do not.
            let src = forged.unwrap_or(own);
            let src_mac = if forged_mac && place != Place::HostPort { mac(net.pod_c) } else { own_mac };
            let packet = Packet { src, dst, ttl, options, transport, payload };
            Step::Packet(place, Frame { dst_mac: Mac::GATEWAY.0, src_mac: src_mac.0, body: Body::Ip(packet) })
        },
    )
}

/// What comes over the underlay.
fn arriving(net: &'static Net) -> impl Strategy<Value = Step> {
    const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);
    let vtep = select(vec![PEER, PEER, PEER, PEER, PEER, PLAIN, STRANGER]);
    let mut sources = vec![net.pod_c, net.pod_c, net.pod_c, net.pod_c, net.pod_d, net.pod_b, net.outside];
    // The peer itself, twice as often.
    sources.extend(net.underlay.get(1).into_iter().chain(net.underlay.iter()));
    let src = select(sources);
    let mut destinations = vec![net.pod_a, net.pod_a, net.pod_b, net.pod_b, net.gateway, net.pod_c];
    destinations.extend(net.underlay.first());
    let dst = select(destinations);
    let vni = prop_oneof![20 => Just(VNI), 1 => Just(VNI + 1)];
    (vtep, src, dst, vni, transport(), ttl(), options(net), payload()).prop_map(
        |(vtep, src, dst, vni, transport, ttl, options, payload)| {
            let packet = Packet { src, dst, ttl, options, transport, payload };
            let inner = Box::new(Frame { dst_mac: mac(dst).0, src_mac: mac(src).0, body: Body::Ip(packet) });
            let body = Body::Vxlan { src: vtep, dst: NODE, vni, inner };
            Step::Packet(Place::Uplink, Frame { dst_mac: [2; 6], src_mac: [4; 6], body })
        },
    )
}

/// Requests from client ports to service ports, replies the other way round, and direct traffic.
fn transport() -> impl Strategy<Value = Transport> {
    let client = || select(CLIENT.to_vec());
    let flags = select(vec![(true, false, false), (false, true, false), (false, true, true)]);
    let ports = prop_oneof![
        (client(), Just(8000)),
        (client(), select(DIRECT.to_vec())),
        // To a backend itself, past its service.
        (client(), select(vec![PORT_TCP, PORT_UDP])),
        (Just(PORT_TCP), client()),
        (Just(PORT_UDP), client()),
        (Just(PORT_SCTP), client()),
        (select(DIRECT[..2].to_vec()), client()),
    ];
    (ports, flags, 0..10).prop_map(|((src, dst), (syn, ack, fin), kind)| match kind {
        0 => Transport::Ping { id: src },
        1..=3 => Transport::Udp { src, dst, checksum: kind != 1 },
        8 | 9 => Transport::Sctp { src, dst, checksum: kind == 8 },
        _ => Transport::Tcp { src, dst, syn, ack, fin },
    })
}

fn ttl() -> impl Strategy<Value = u8> {
    prop_oneof![10 => Just(64_u8), 1 => 1..=255_u8]
}

/// Options of zero to ten words, all "no operation"; only IPv4 has them.
fn options(net: &Net) -> impl Strategy<Value = Vec<u8>> {
    let most: usize = if net.gateway.is_ipv4() { 10 } else { 0 };
    prop_oneof![10 => Just(0_usize), 1 => 0..=most].prop_map(|words| vec![1; words * 4])
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..64)
}
