//! Stories of what is refused, by which name, and of what is left alone.

use std::net::{IpAddr, Ipv4Addr};

use lb_dataplane::{Drop, Hop, desired::Protocol};

use crate::{
    answers::Answer,
    build::{arriving, dropped, echo, from, name, packet, sent, syn, tcp, udp, underlay, with, wrapped},
    frame::{Body, Frame, Packet, Transport},
    net::{Net, mac},
    services::told,
    table::Story,
    world::{NODE, Outcome, PEER, PLAIN, Place, VNI, World, service, shortest},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("guard_refuses_forged_sources_and_vxlan", guard),
    ("an_unset_node_passes_what_arrives_and_nothing_of_pods", unset_node),
    ("arrival_refuses_strangers", strangers),
    ("a_stranger_without_an_address_rides_on_no_flow", no_address),
    ("the_underlay_may_not_speak_for_pods", spoofed_pods),
    ("arrival_leaves_what_is_not_its_own", not_ours),
    ("odd_packets_are_refused_by_name", odd_packets),
    ("multicast_and_neighbour_discovery_stay_with_the_pod", multicast),
];

fn guard(net: &Net) {
    let mut world = World::new(&name(net, "guard"));
    let honest = from(&packet(net.pod_a, net.pod_c, tcp(1, 2)));
    sent(&mut world, Place::PortA, &honest);
    assert_eq!(
        dropped(&mut world, Place::PortB, &honest),
        Drop::ForgedSource,
        "another port's flow, already established, opens no door"
    );
    let mut forged = honest.clone();
    forged.src_mac = mac(net.pod_b).0;
    assert_eq!(dropped(&mut world, Place::PortA, &forged), Drop::ForgedMac);
    let others = [net.pod_b, net.pod_c, net.gateway, net.outside];
    for &src in others.iter().chain(net.underlay) {
        let forged = Frame { src_mac: mac(net.pod_a).0, ..from(&packet(src, net.pod_c, tcp(1, 2))) };
        assert_eq!(dropped(&mut world, Place::PortA, &forged), Drop::ForgedSource, "{src}");
    }
    // To any address: a node may have more than it is known by.
    for &node in [net.gateway, net.outside].iter().chain(net.underlay) {
        let vxlan = from(&packet(net.pod_a, node, udp(1, 4789)));
        assert_eq!(dropped(&mut world, Place::PortA, &vxlan), Drop::PodVxlan, "{node}");
    }
    world.set_services(&[service("smuggler", Protocol::Udp, net.vip(0), &[(net.outside, 4789)])]);
    let smuggled = from(&packet(net.pod_a, net.vip(0), udp(1, 8000)));
    assert_eq!(dropped(&mut world, Place::PortA, &smuggled), Drop::PodVxlan);
    let among_pods = from(&packet(net.pod_a, net.pod_c, udp(1, 4789)));
    assert_eq!(sent(&mut world, Place::PortA, &among_pods).0, Hop::PortToOverlay);
    let arp = Frame { body: Body::Other { ethertype: 0x0806, bytes: vec![0; 28] }, ..honest };
    assert_eq!(dropped(&mut world, Place::PortA, &arp), Drop::NotIp);
}

fn unset_node(net: &Net) {
    let mut world = World::bare(&name(net, "unset"));
    let frames = [
        arriving(PEER, &packet(net.pod_c, net.pod_a, tcp(1, 2))),
        Frame { dst_mac: [2; 6], src_mac: [4; 6], body: Body::Ip(underlay(tcp(1, 22))) },
    ];
    for frame in frames {
        assert_eq!(world.run(Place::Uplink, &frame.encode()), Outcome::Next, "{frame:?}");
    }
    let out = from(&packet(net.pod_a, net.outside, tcp(1, 2)));
    assert_eq!(dropped(&mut world, Place::PortA, &out), Drop::NotReady);
}

fn strangers(net: &Net) {
    let mut world = World::new(&name(net, "strangers"));
    let inner = packet(net.pod_c, net.pod_a, udp(53, 1000));
    let good = arriving(PEER, &inner);
    sent(&mut world, Place::Uplink, &good);

    let wrong_vni = wrapped(PEER, NODE, VNI + 1, mac(net.pod_a), mac(net.pod_c), inner.clone());
    assert_eq!(dropped(&mut world, Place::Uplink, &wrong_vni), Drop::UnknownVni);
    let stranger = arriving(Ipv4Addr::new(192, 168, 77, 66), &inner);
    assert_eq!(dropped(&mut world, Place::Uplink, &stranger), Drop::UnknownVtep);
    let other_peer = arriving(PLAIN, &inner);
    assert_eq!(dropped(&mut world, Place::Uplink, &other_peer), Drop::ForgedInnerSource);
    // A node may speak for itself, and for no other.
    let others = net.underlay.iter().filter(|node| **node != PEER);
    for &src in [net.pod_b, net.outside].iter().chain(others) {
        let forged = arriving(PEER, &packet(src, net.pod_a, udp(53, 1000)));
        assert_eq!(dropped(&mut world, Place::Uplink, &forged), Drop::ForgedInnerSource, "{src}");
    }
    for &dst in [net.outside, net.pod_c, net.unused()].iter().chain(net.underlay) {
        let lost = arriving(PEER, &packet(net.pod_c, dst, udp(53, 1000)));
        assert_eq!(dropped(&mut world, Place::Uplink, &lost), Drop::NoEndpoint, "{dst}");
    }
    let (hop, _) =
        sent(&mut world, Place::Uplink, &arriving(PEER, &packet(net.pod_c, net.gateway, udp(53, 1000))));
    assert_eq!(hop, Hop::UplinkToHost);
}

fn no_address(net: &Net) {
    let mut world = World::new(&name(net, "no_address"));
    let live = packet(net.pod_a, net.pod_b, udp(1000, 2000));
    sent(&mut world, Place::PortA, &from(&live));
    let ridden = arriving(Ipv4Addr::UNSPECIFIED, &live);
    assert_eq!(dropped(&mut world, Place::Uplink, &ridden), Drop::UnknownVtep);
}

fn spoofed_pods(net: &Net) {
    let mut world = World::new(&name(net, "spoofed"));
    for pod in [net.pod_a, net.pod_c, net.pod_d] {
        let plain =
            Frame { dst_mac: [2; 6], src_mac: [4; 6], body: Body::Ip(packet(pod, net.pod_b, udp(1, 2))) };
        assert_eq!(dropped(&mut world, Place::Uplink, &plain), Drop::SpoofedPod, "{pod}");
    }
}

fn not_ours(net: &Net) {
    let mut world = World::new(&name(net, "not_ours"));
    let plain = |packet: Packet| Frame { dst_mac: [2; 6], src_mac: [4; 6], body: Body::Ip(packet) };
    let mut frames = vec![
        plain(underlay(tcp(1, 22))),
        plain(underlay(udp(1, 53))),
        plain(underlay(Transport::Ping { id: 1 })),
        wrapped(PEER, PLAIN, VNI, mac(net.pod_a), mac(net.pod_c), packet(net.pod_c, net.pod_a, udp(1, 2))),
        Frame { body: Body::Other { ethertype: 0x0806, bytes: vec![0; 28] }, ..plain(underlay(tcp(1, 2))) },
        Frame {
            body: Body::Other { ethertype: 0x86dd, bytes: vec![0x60; 40] },
            ..plain(underlay(tcp(1, 2)))
        },
    ];
    frames.push(plain(with(underlay(udp(1, 4789)), |p| {
        p.options = vec![1; 4];
    })));
    for frame in frames {
        assert_eq!(world.run(Place::Uplink, &frame.encode()), Outcome::Next, "{frame:?}");
    }
}

fn odd_packets(net: &Net) {
    let mut world = World::new(&name(net, "odd"));
    world.set_services(&[echo(net, &[])]);
    let dead = with(packet(net.pod_a, net.pod_b, tcp(1, 2)), |p| p.ttl = 1);
    assert_eq!(
        told(&mut world, Place::PortA, &from(&dead)),
        (Drop::TtlExceeded, Answer::ttl_exceeded(&from(&dead)))
    );
    let nobody = packet(net.pod_a, net.vip(0), syn(1, 8000));
    assert_eq!(told(&mut world, Place::PortA, &from(&nobody)).0, Drop::NoBackend);

    let whole = from(&packet(net.pod_a, net.pod_b, tcp(1, 2))).encode();
    // Shorter than an IP header is refused by the kernel's test run itself.
    let headers = shortest(&whole);
    for length in headers..headers + 14 {
        let outcome = world.run(Place::PortA, &whole[..length]);
        assert_eq!(outcome, Outcome::Dropped(Drop::Malformed), "cut to {length} bytes");
    }
    let other_version = if net.gateway.is_ipv4() { 0x65 } else { 0x45 };
    for version_ihl in [0x00, 0x44, 0x55, other_version, 0xf5] {
        let mut bytes = whole.clone();
        bytes[14] = version_ihl;
        assert_eq!(world.run(Place::PortA, &bytes), Outcome::Dropped(Drop::Malformed), "{version_ihl:#x}");
    }
    let wire = arriving(PEER, &packet(net.pod_c, net.pod_a, tcp(1, 2))).encode();
    for length in 14 + 36..14 + 36 + headers + 14 {
        let outcome = world.run(Place::Uplink, &wire[..length]);
        assert_eq!(outcome, Outcome::Dropped(Drop::Malformed), "cut to {length} bytes");
    }
}

fn multicast(net: &Net) {
    let mut world = World::new(&name(net, "multicast"));
    let group: IpAddr = if net.gateway.is_ipv4() { "224.0.0.251" } else { "ff02::fb" }.parse().unwrap();
    let to_all = from(&packet(net.pod_a, group, udp(5353, 5353)));
    assert_eq!(dropped(&mut world, Place::PortA, &to_all), Drop::Multicast);
    if net.gateway.is_ipv4() {
        return;
    }
    let ping = from(&packet(net.pod_a, net.pod_b, Transport::Ping { id: 1 }));
    let arriving = arriving(PEER, &packet(net.pod_c, net.pod_a, Transport::Ping { id: 1 }));
    for (place, frame, at) in [(Place::PortA, ping, 54), (Place::Uplink, arriving, 50 + 54)] {
        let mut bytes = frame.encode();
        for icmp_type in 133..=137 {
            bytes[at] = icmp_type;
            let outcome = world.run(place, &bytes);
            assert_eq!(outcome, Outcome::Dropped(Drop::NeighbourDiscovery), "type {icmp_type} at {place:?}");
        }
    }
}
