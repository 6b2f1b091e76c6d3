//! Stories of packets whose IPv6 header is followed by others before the transport header.

use lb_dataplane::{Drop, Hop, desired::Protocol};

use crate::{
    answers::{Answer, Told},
    build::{arriving, dropped, from, packet, sent, syn, tcp, to, udp, with, wrapped},
    chain::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING, padding},
    fragment::{cut, put_together},
    frame::{Frame, Packet, Transport},
    net::{Net, mac},
    services::told,
    table::Story,
    world::{NODE, Outcome, PEER, Place, VNI, World, service},
};

/// Every test of this file, all of IPv6.
pub const TESTS: &[(&str, Story)] = &[
    ("extension_headers_stay_with_a_balanced_packet", balanced),
    ("extension_headers_stay_in_front_of_fragments", in_front_of_fragments),
    ("icmp_errors_about_packets_with_extension_headers_are_translated", errors),
    ("a_refused_packet_with_extension_headers_is_answered", refused),
    ("extension_headers_that_are_not_carried_are_refused_by_name", not_carried),
    ("neighbour_discovery_and_multicast_stay_with_the_pod_behind_extension_headers", hidden),
];

/// As much as is carried of one packet.
const MOST: usize = 144;

fn chains() -> [Vec<u8>; 4] {
    [
        padding(HOP_BY_HOP, 8),
        padding(DESTINATION_OPTIONS, 24),
        [padding(HOP_BY_HOP, 16), padding(DESTINATION_OPTIONS, 32), padding(DESTINATION_OPTIONS, 8)].concat(),
        [padding(HOP_BY_HOP, 8), padding(DESTINATION_OPTIONS, MOST - 8)].concat(),
    ]
}

fn behind(chain: &[u8], packet: Packet) -> Packet {
    with(packet, |p| p.options = chain.to_vec())
}

type Make = fn(u16, u16) -> Transport;

fn balanced(net: &Net) {
    let sctp: Make = |src, dst| Transport::Sctp { src, dst, checksum: true };
    let kinds: [(Protocol, Make, Make); 3] =
        [(Protocol::Tcp, syn, tcp), (Protocol::Udp, udp, udp), (Protocol::Sctp, sctp, sctp)];
    for (n, (protocol, first, later)) in kinds.into_iter().enumerate() {
        let mut world = World::new(&format!("extensions_{n}"));
        world.set_services(&[
            service("far", protocol, net.vip(0), &[(net.pod_c, 80)]),
            service("near", protocol, net.vip(1), &[(net.pod_b, 81)]),
        ]);
        for (port, chain) in (40_000..).zip(chains()) {
            for transport in [first, later] {
                let request = behind(&chain, packet(net.pod_a, net.vip(0), transport(port, 8000)));
                let wire =
                    with(behind(&chain, packet(net.pod_a, net.pod_c, transport(port, 80))), |p| p.ttl = 63);
                assert_eq!(
                    sent(&mut world, Place::PortA, &from(&request)),
                    (Hop::PortToOverlay, wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), wire))
                );
                let reply = behind(&chain, packet(net.pod_c, net.pod_a, later(80, port)));
                let undone = behind(&chain, packet(net.vip(0), net.pod_a, later(8000, port)));
                assert_eq!(
                    sent(&mut world, Place::Uplink, &arriving(PEER, &reply)),
                    (Hop::UplinkToPort, to(net.pod_a, undone))
                );

                let request = behind(&chain, packet(net.pod_a, net.vip(1), transport(port, 8000)));
                let got =
                    with(behind(&chain, packet(net.pod_a, net.pod_b, transport(port, 81))), |p| p.ttl = 63);
                assert_eq!(
                    sent(&mut world, Place::PortA, &from(&request)),
                    (Hop::PortToPort, to(net.pod_b, got))
                );
                let reply = behind(&chain, packet(net.pod_b, net.pod_a, later(81, port)));
                let undone =
                    with(behind(&chain, packet(net.vip(1), net.pod_a, later(8000, port))), |p| p.ttl = 63);
                assert_eq!(
                    sent(&mut world, Place::PortB, &from(&reply)),
                    (Hop::PortToPort, to(net.pod_a, undone))
                );
            }
        }
    }
}

fn in_front_of_fragments(net: &Net) {
    let mut world = World::new("extensions_fragments");
    world.set_services(&[service("dns", Protocol::Udp, net.vip(0), &[(net.pod_c, 53)])]);
    let large = |packet| with(packet, |p: &mut Packet| p.payload = vec![7; 4_000]);
    let pieces = |frame: &Frame, id| cut(frame, id, 1_352 / 8);
    // The last of them leaves no room for a Fragment header.
    for (id, chain) in (1..).zip(&chains()[..3]) {
        let request = from(&behind(chain, large(packet(net.pod_a, net.vip(0), udp(40_000, 8000)))));
        let out: Vec<_> =
            pieces(&request, id).iter().map(|piece| sent(&mut world, Place::PortA, piece).1).collect();
        let wire = with(behind(chain, large(packet(net.pod_a, net.pod_c, udp(40_000, 53)))), |p| p.ttl = 63);
        let expected = wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), wire);
        assert_eq!(put_together(&out), expected);

        let reply = arriving(PEER, &behind(chain, large(packet(net.pod_c, net.pod_a, udp(53, 40_000)))));
        let back: Vec<_> =
            pieces(&reply, id).iter().map(|piece| sent(&mut world, Place::Uplink, piece).1).collect();
        let undone = behind(chain, large(packet(net.vip(0), net.pod_a, udp(8000, 40_000))));
        assert_eq!(put_together(&back), to(net.pod_a, undone));
    }
}

fn errors(net: &Net) {
    let mut world = World::new("extensions_errors");
    world.set_services(&[service("dns", Protocol::Udp, net.vip(0), &[(net.pod_c, 53)])]);
    for chain in chains() {
        let asked = behind(&chain, packet(net.pod_a, net.vip(0), udp(40_000, 8000)));
        sent(&mut world, Place::PortA, &from(&asked));
        let got = behind(&chain, packet(net.pod_a, net.pod_c, udp(40_000, 53)));
        let error = |src, about: &Packet| {
            let transport = Transport::Error { kind: 1, code: 4, info: 0 };
            // An error may well have options of its own.
            with(behind(&chain, packet(src, net.pod_a, transport)), |p| p.payload = about.encode())
        };
        assert_eq!(
            sent(&mut world, Place::Uplink, &arriving(PEER, &error(net.pod_c, &got))),
            (Hop::UplinkToPort, to(net.pod_a, error(net.vip(0), &asked)))
        );
    }
}

fn refused(net: &Net) {
    let mut world = World::new("extensions_refused");
    world.set_services(&[service("empty", Protocol::Tcp, net.vip(0), &[])]);
    for chain in chains() {
        for transport in [syn(40_000, 8000), tcp(40_000, 8000), udp(40_000, 8000)] {
            let frame = from(&behind(&chain, packet(net.pod_a, net.vip(0), transport)));
            let (reason, answer) = told(&mut world, Place::PortA, &frame);
            let no_udp = matches!(transport, Transport::Udp { .. });
            assert_eq!(reason, if no_udp { Drop::NoFrontend } else { Drop::NoBackend });
            assert_eq!(answer, Answer::to(&frame, reason));
            assert_eq!(matches!(answer.told, Told::Error { .. }), no_udp);
        }
    }
}

fn not_carried(net: &Net) {
    let mut world = World::new("extensions_refusals");
    let places = |packet: &dyn Fn(std::net::IpAddr, std::net::IpAddr) -> Packet| {
        [
            (Place::PortA, from(&packet(net.pod_a, net.pod_b))),
            (Place::Uplink, arriving(PEER, &packet(net.pod_c, net.pod_a))),
        ]
    };
    let hop = padding(HOP_BY_HOP, 8);
    let options = padding(DESTINATION_OPTIONS, 8);
    // A routing header's last four bytes are its own; here all of it is zero, and it names no further address.
    let routing = [&[ROUTING][..], &[0; 7]].concat();
    let too_long = [padding(HOP_BY_HOP, 8), padding(DESTINATION_OPTIONS, MOST)].concat();
    let fragment = [&[FRAGMENT][..], &[0; 7]].concat();
    let refused = [
        routing.clone(),
        [hop.clone(), routing].concat(),
        [&hop[..], &options, &options, &options, &options].concat(),
        too_long,
        padding(HOP_BY_HOP, 2_048),
        [fragment.clone(), options].concat(),
        [hop.clone(), fragment.clone(), fragment].concat(),
    ];
    for chain in refused {
        for (place, frame) in places(&|src, dst| behind(&chain, packet(src, dst, udp(1, 2)))) {
            assert_eq!(dropped(&mut world, place, &frame), Drop::ExtensionHeader, "{chain:?} at {place:?}");
        }
    }
    for (place, frame) in places(&|src, dst| behind(&hop, packet(src, dst, udp(1, 2)))) {
        let l4 = if place == Place::PortA { 54 } else { 104 } + 8;
        let mut bytes = frame.encode();
        // Longer than the packet.
        bytes[l4 - 7] = 10;
        assert_eq!(world.run(place, &bytes), Outcome::Dropped(Drop::Malformed), "{place:?}");
        bytes[l4 - 7] = 0;
        for length in l4 - 8..l4 {
            let outcome = world.run(place, &bytes[..length]);
            assert_eq!(outcome, Outcome::Dropped(Drop::Malformed), "cut to {length} bytes at {place:?}");
        }
    }
}

fn hidden(net: &Net) {
    let mut world = World::new("extensions_hidden");
    // As a kernel tells of the groups it is in (RFC 3810 §5.2): from :: at first, with a router alert (RFC 2711).
    let router_alert = vec![HOP_BY_HOP, 0, 5, 2, 0, 0, 1, 0];
    let report = Transport::Error { kind: 143, code: 0, info: 0 };
    for source in [net.pod_a, "::".parse().unwrap(), "fe80::1234".parse().unwrap()] {
        let report = behind(&router_alert, packet(source, "ff02::16".parse().unwrap(), report));
        let report = Frame { src_mac: mac(net.pod_a).0, ..from(&report) };
        assert_eq!(dropped(&mut world, Place::PortA, &report), Drop::Multicast, "from {source}");
    }
    for chain in chains() {
        for kind in 133..=137 {
            let message =
                |src, dst| behind(&chain, packet(src, dst, Transport::Error { kind, code: 0, info: 0 }));
            let leaving = from(&message(net.pod_a, net.pod_b));
            assert_eq!(dropped(&mut world, Place::PortA, &leaving), Drop::NeighbourDiscovery);
            let arrives = arriving(PEER, &message(net.pod_c, net.pod_a));
            assert_eq!(dropped(&mut world, Place::Uplink, &arrives), Drop::NeighbourDiscovery);
        }
    }
}
