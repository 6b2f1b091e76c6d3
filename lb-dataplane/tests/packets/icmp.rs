//! Stories of ICMP errors about balanced packets: who gets them, from whom, and what they quote.

use std::net::IpAddr;

use lb_dataplane::{Drop, Hop, desired::Protocol};

use crate::{
    build::{arriving, dropped, from, from_host, name, packet, sent, syn, tcp, to, udp, with, wrapped},
    frame::{Packet, Transport},
    net::{Net, mac},
    table::Story,
    world::{NODE, PEER, Place, VNI, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("c_icmp_errors_of_a_backend_come_from_the_vip", of_a_backend),
    ("c_icmp_errors_of_a_backend_on_one_node", on_one_node),
    ("c_icmp_errors_of_a_client_reach_the_backend", of_a_client),
    ("c_icmp_errors_of_others_on_the_way_keep_their_source", of_others),
    ("c_icmp_errors_about_no_flow_pass_as_they_are", about_no_flow),
    ("c_icmp_errors_are_never_answered", never_answered),
];

/// Type and code of an error in either family.
#[derive(Clone, Copy)]
enum Kind {
    PortUnreachable,
    TooBig,
}

/// The error about `about`, of which it quotes `length` bytes at most.
fn error(src: IpAddr, dst: IpAddr, kind: Kind, about: &Packet, length: usize) -> Packet {
    let (kind, code, info) = match (kind, src.is_ipv4()) {
        (Kind::PortUnreachable, true) => (3, 3, 0),
        (Kind::PortUnreachable, false) => (1, 4, 0),
        (Kind::TooBig, true) => (3, 4, 1_300),
        (Kind::TooBig, false) => (2, 0, 1_300),
    };
    let quote = about.encode();
    let payload = quote[..length.min(quote.len())].to_vec();
    with(packet(src, dst, Transport::Error { kind, code, info }), |p| p.payload = payload)
}

/// As little as there may be, an odd length, and all of it.
fn lengths(net: &Net) -> [usize; 3] {
    let header = if net.gateway.is_ipv4() { 20 } else { 40 };
    [header + 8, header + 19, usize::MAX]
}

/// Of these ports.
type Make = fn(u16, u16) -> Transport;

fn protocols() -> [(Protocol, Make); 4] {
    [
        (Protocol::Tcp, tcp),
        (Protocol::Udp, udp),
        (Protocol::Udp, |src, dst| Transport::Udp { src, dst, checksum: false }),
        (Protocol::Sctp, |src, dst| Transport::Sctp { src, dst, checksum: false }),
    ]
}

/// A world in which A has asked the VIP over `protocol`, whose backend is `backend`.
fn asked(net: &Net, story: &str, n: usize, protocol: Protocol, backend: IpAddr) -> World {
    let mut world = World::new(&format!("{}_{n}", name(net, story)));
    world.set_services(&[service("echo", protocol, net.vip(0), &[(backend, 80)])]);
    let request = match protocol {
        Protocol::Tcp => syn(40_000, 8000),
        Protocol::Udp => udp(40_000, 8000),
        Protocol::Sctp => Transport::Sctp { src: 40_000, dst: 8000, checksum: false },
    };
    sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), request)));
    world
}

fn of_a_backend(net: &Net) {
    for (n, (protocol, transport)) in protocols().into_iter().enumerate() {
        let mut world = asked(net, "icmp_backend", n, protocol, net.pod_c);
        let got = packet(net.pod_a, net.pod_c, transport(40_000, 80));
        let asked = packet(net.pod_a, net.vip(0), transport(40_000, 8000));
        for length in lengths(net) {
            let error = |src, about| error(src, net.pod_a, Kind::PortUnreachable, about, length);
            assert_eq!(
                sent(&mut world, Place::Uplink, &arriving(PEER, &error(net.pod_c, &got))),
                (Hop::UplinkToPort, to(net.pod_a, error(net.vip(0), &asked)))
            );
        }
    }
}

fn on_one_node(net: &Net) {
    for (n, (protocol, transport)) in protocols().into_iter().enumerate() {
        let mut world = asked(net, "icmp_one_node", n, protocol, net.pod_b);
        let got = packet(net.pod_a, net.pod_b, transport(40_000, 80));
        let asked = packet(net.pod_a, net.vip(0), transport(40_000, 8000));
        for length in lengths(net) {
            let error = |src, about| error(src, net.pod_a, Kind::PortUnreachable, about, length);
            let told = with(error(net.vip(0), &asked), |p| p.ttl = 63);
            assert_eq!(
                sent(&mut world, Place::PortB, &from(&error(net.pod_b, &got))),
                (Hop::PortToPort, to(net.pod_a, told))
            );
        }
    }
}

fn of_a_client(net: &Net) {
    for (n, (protocol, transport)) in protocols().into_iter().enumerate() {
        let mut world = asked(net, "icmp_client", n, protocol, net.pod_c);
        let got = packet(net.vip(0), net.pod_a, transport(8000, 40_000));
        let answered = packet(net.pod_c, net.pod_a, transport(80, 40_000));
        for length in lengths(net) {
            let error = |dst, about| error(net.pod_a, dst, Kind::TooBig, about, length);
            let told = with(error(net.pod_c, &answered), |p| p.ttl = 63);
            assert_eq!(
                sent(&mut world, Place::PortA, &from(&error(net.vip(0), &got))),
                (Hop::PortToOverlay, wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), told))
            );
        }
    }
}

fn of_others(net: &Net) {
    let got = packet(net.pod_a, net.pod_c, udp(40_000, 80));
    let asked_for = packet(net.pod_a, net.vip(0), udp(40_000, 8000));
    let mut world = asked(net, "icmp_others", 0, Protocol::Udp, net.pod_c);
    let error = |src, about| error(src, net.pod_a, Kind::TooBig, about, usize::MAX);
    let peer = net.far(1);
    assert_eq!(
        sent(&mut world, Place::Uplink, &arriving(PEER, &error(peer, &got))),
        (Hop::UplinkToPort, to(net.pod_a, error(peer, &asked_for))),
        "the backend's node, or whoever is behind it"
    );
    // A backend outside, reached through the host: a router tells of it.
    let mut world = asked(net, "icmp_outside", 0, Protocol::Udp, net.outside);
    let got = packet(net.pod_a, net.outside, udp(40_000, 80));
    let told = with(error(net.gateway, &asked_for), |p| p.ttl = 63);
    assert_eq!(
        sent(&mut world, Place::HostPort, &from_host(&error(net.gateway, &got))),
        (Hop::PortToPort, to(net.pod_a, told))
    );
}

fn about_no_flow(net: &Net) {
    let mut world = asked(net, "icmp_none", 0, Protocol::Udp, net.pod_c);
    let error = |src, about| error(src, net.pod_a, Kind::PortUnreachable, about, usize::MAX);
    let other = packet(net.pod_a, net.pod_c, udp(40_001, 80));
    assert_eq!(
        sent(&mut world, Place::Uplink, &arriving(PEER, &error(net.pod_c, &other))),
        (Hop::UplinkToPort, to(net.pod_a, error(net.pod_c, &other)))
    );
    // B speaks of what A has with C.
    let others = error(net.pod_b, &packet(net.pod_a, net.pod_c, udp(40_000, 80)));
    let passed = with(others.clone(), |p| p.ttl = 63);
    assert_eq!(sent(&mut world, Place::PortB, &from(&others)), (Hop::PortToPort, to(net.pod_a, passed)));
}

/// RFC 1122 §3.2.2: their time to live runs out in silence.
fn never_answered(net: &Net) {
    let mut world = asked(net, "icmp_never", 0, Protocol::Udp, net.pod_c);
    for port in [8000, 8001] {
        let about = packet(net.vip(0), net.pod_a, udp(port, 40_000));
        let error = error(net.pod_a, net.pod_c, Kind::PortUnreachable, &about, usize::MAX);
        let last = with(error, |p| p.ttl = 1);
        assert_eq!(dropped(&mut world, Place::PortA, &from(&last)), Drop::TtlExceeded, "port {port}");
    }
}
