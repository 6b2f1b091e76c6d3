//! Stories of packets that are larger than the overlay carries: their senders are told, in the words of what they sent.

use std::net::IpAddr;

use lb_dataplane::{Drop, Hop, desired::Protocol};

use crate::{
    answers::Answer,
    build::{from, from_host, name, packet, sent, syn, tcp, udp, with},
    fragment::cut,
    frame::{Packet, Transport},
    net::Net,
    services::told,
    table::Story,
    world::{Outcome, Place, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("c_the_sender_of_a_packet_too_big_is_told", is_told),
    ("c_a_packet_to_be_cut_is_as_big_as_its_pieces", to_be_cut),
    ("c_of_a_datagram_in_fragments_too_big_the_first_is_told_of", fragments),
];

const MTU: u32 = 1_300;

/// With services of every protocol at the first VIP, whose backend is on the other node.
fn world(net: &Net, story: &str) -> World {
    let mut world = World::new(&name(net, story));
    world.set_mtu(MTU);
    let to_c = |name, protocol| service(name, protocol, net.vip(0), &[(net.pod_c, 80)]);
    world.set_services(&[
        to_c("tcp", Protocol::Tcp),
        to_c("udp", Protocol::Udp),
        to_c("sctp", Protocol::Sctp),
        service("near", Protocol::Udp, net.vip(1), &[(net.pod_b, 80)]),
    ]);
    world
}

/// `packet` with as much payload as makes it `length` bytes of IP.
fn of_length(packet: Packet, length: u32) -> Packet {
    let headers = packet.encode().len() - packet.payload.len();
    let payload = usize::try_from(length).unwrap() - headers;
    with(packet, |p| p.payload = (0..payload).map(|n| n.to_le_bytes()[0]).collect())
}

fn is_told(net: &Net) {
    let mut world = world(net, "too_big");
    sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), syn(40_000, 8000))));
    let sctp = Transport::Sctp { src: 40_000, dst: 8000, checksum: true };
    let sources: [(Place, IpAddr); 2] = [(Place::PortA, net.pod_a), (Place::HostPort, net.gateway)];
    for (place, src) in sources {
        for transport in [tcp(40_000, 8000), udp(40_000, 8000), sctp, Transport::Ping { id: 7 }] {
            let dst = if matches!(transport, Transport::Ping { .. }) { net.pod_c } else { net.vip(0) };
            let frame = |length| {
                let packet = of_length(packet(src, dst, transport), length);
                if place == Place::PortA { from(&packet) } else { from_host(&packet) }
            };
            assert_eq!(sent(&mut world, place, &frame(MTU)).0, Hop::PortToOverlay, "{transport:?}");
            for length in [MTU + 1, 1_450] {
                let frame = frame(length);
                assert_eq!(
                    told(&mut world, place, &frame),
                    (Drop::PacketTooBig, Answer::too_big(&frame, MTU)),
                    "{transport:?} at {place:?}"
                );
            }
        }
    }
    // On one node the overlay has no say, nor has it where the host sends on.
    for (dst, hop) in [(net.vip(1), Hop::PortToPort), (net.outside, Hop::PortToHost)] {
        let large = from(&of_length(packet(net.pod_a, dst, udp(1, 8000)), 1_450));
        assert_eq!(sent(&mut world, Place::PortA, &large).0, hop);
    }
    // An error is never answered by another.
    let error = Transport::Error { kind: if net.gateway.is_ipv4() { 3 } else { 1 }, code: 4, info: 0 };
    let error = from(&of_length(packet(net.pod_a, net.pod_c, error), MTU + 1));
    match world.run(Place::PortA, &error.encode()) {
        Outcome::Dropped(Drop::PacketTooBig) => {}
        other => panic!("{other:?}"),
    }
    // The uplink has its size again.
    world.set_mtu(1_450);
    world.set_services(&[service("udp", Protocol::Udp, net.vip(0), &[(net.pod_c, 80)])]);
    let large = from(&of_length(packet(net.pod_a, net.vip(0), udp(40_000, 8000)), 1_450));
    assert_eq!(sent(&mut world, Place::PortA, &large).0, Hop::PortToOverlay);
}

fn to_be_cut(net: &Net) {
    let mut world = world(net, "too_big_gso");
    let ip = if net.gateway.is_ipv4() { 20 } else { 40 };
    for (transport, header) in [(tcp(40_000, 8000), 20), (udp(40_000, 8000), 8)] {
        sent(
            &mut world,
            Place::PortA,
            &from(&packet(
                net.pod_a,
                net.vip(0),
                match transport {
                    Transport::Tcp { .. } => syn(40_000, 8000),
                    other => other,
                },
            )),
        );
        let frame = from(&of_length(packet(net.pod_a, net.vip(0), transport), 3_000));
        let fits = MTU - ip - header;
        match world.run_gso(Place::PortA, &frame.encode(), fits) {
            // What a test run makes of these bytes the kernel does not wrap: it is of no kind of GSO.
            Outcome::Sent(Hop::PortToOverlay, _) | Outcome::Dropped(Drop::EncapFailed) => {}
            other => panic!("{other:?}"),
        }
        match world.run_gso(Place::PortA, &frame.encode(), fits + 1) {
            Outcome::Answered(Drop::PacketTooBig, bytes) => {
                assert_eq!(Answer::decode(&bytes).unwrap(), Answer::too_big(&frame, MTU));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn fragments(net: &Net) {
    let mut world = world(net, "too_big_fragments");
    let pieces = |step| {
        let datagram = of_length(packet(net.pod_a, net.vip(0), udp(40_000, 8000)), 4_000);
        cut(&from(&datagram), 1, step)
    };
    let [first, second, ..] = &pieces(1_400 / 8)[..] else { panic!("too few") };
    assert_eq!(told(&mut world, Place::PortA, first), (Drop::PacketTooBig, Answer::too_big(first, MTU)));
    // It does not say whose it is.
    match world.run(Place::PortA, &second.encode()) {
        Outcome::Dropped(Drop::FragmentWithoutFirst | Drop::PacketTooBig) => {}
        other => panic!("{other:?}"),
    }
    for piece in pieces(1_200 / 8) {
        assert_eq!(sent(&mut world, Place::PortA, &piece).0, Hop::PortToOverlay);
    }
}
