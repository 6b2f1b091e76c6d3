//! Stories of datagrams that travel in fragments, of which only the first has ports.

use lb_dataplane::{Drop, Hop, desired::Protocol};

use crate::{
    build::{arriving, dropped, from, from_host, name, packet, sent, to, to_host, udp, with, wrapped},
    fragment::{cut, put_together},
    frame::{Body, Frame, Packet},
    net::{Net, mac},
    table::Story,
    world::{NODE, PEER, Place, VNI, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("c_large_requests_fragments_go_where_the_first_goes_and_come_back_as_the_vip", across_nodes),
    ("c_large_requests_on_one_node", on_one_node),
    ("c_large_requests_of_the_host", of_the_host),
    ("c_a_large_request_of_a_pod_to_itself_is_not_taken_for_the_hosts", looks_like_the_hosts),
    ("c_large_requests_of_every_datagram_for_itself", each_for_itself),
    ("fragments_before_their_first_are_refused_by_name_at_a_vip_and_pass_elsewhere", first_comes_late),
    ("fragments_of_a_refused_first_follow_nobody", first_is_refused),
    ("fragments_pass_between_pods", between_pods),
    ("fragments_stay_with_their_datagrams_backend", backends_change),
];

/// Orders in which the six fragments of a datagram of 8 KB arrive, the first always first.
const ORDERS: [[usize; 6]; 3] = [[0, 1, 2, 3, 4, 5], [0, 5, 4, 3, 2, 1], [0, 3, 1, 5, 2, 4]];
const STEP: usize = 1424 / 8;

fn large(packet: Packet) -> Packet {
    with(packet, |p| p.payload = (0..8_000_u16).map(|n| n.to_le_bytes()[0]).collect())
}

/// Sends a datagram's fragments in this order; puts together what came of them.
#[track_caller]
fn send(world: &mut World, place: Place, pieces: &[Frame], order: &[usize]) -> (Hop, Frame) {
    let mut out = vec![None; pieces.len()];
    for &n in order {
        out[n] = Some(sent(world, place, &pieces[n]));
    }
    let out: Vec<_> = out.into_iter().map(|piece| piece.expect("the order names each")).collect();
    let hop = out[0].0;
    assert!(out.iter().all(|piece| piece.0 == hop), "by several ways");
    (hop, put_together(&out.into_iter().map(|piece| piece.1).collect::<Vec<_>>()))
}

fn dns(net: &Net, world: &mut World, backend: std::net::IpAddr) {
    world.set_services(&[service("dns", Protocol::Udp, net.vip(0), &[(backend, 53)])]);
}

fn across_nodes(net: &Net) {
    let mut world = World::new(&name(net, "large"));
    dns(net, &mut world, net.pod_c);
    let request = large(packet(net.pod_a, net.vip(0), udp(40_000, 8000)));
    let wire = with(large(packet(net.pod_a, net.pod_c, udp(40_000, 53))), |p| p.ttl = 63);
    let reply = large(packet(net.pod_c, net.pod_a, udp(53, 40_000)));
    let undone = large(packet(net.vip(0), net.pod_a, udp(8000, 40_000)));
    for (id, order) in (1..).zip(ORDERS) {
        assert_eq!(
            send(&mut world, Place::PortA, &cut(&from(&request), id, STEP), &order),
            (Hop::PortToOverlay, wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), wire.clone()))
        );
        assert_eq!(
            send(&mut world, Place::Uplink, &cut(&arriving(PEER, &reply), id, STEP), &order),
            (Hop::UplinkToPort, to(net.pod_a, undone.clone()))
        );
    }
}

fn on_one_node(net: &Net) {
    let mut world = World::new(&name(net, "large_one_node"));
    dns(net, &mut world, net.pod_b);
    let request = from(&large(packet(net.pod_a, net.vip(0), udp(40_000, 8000))));
    let delivered = with(large(packet(net.pod_a, net.pod_b, udp(40_000, 53))), |p| p.ttl = 63);
    let reply = from(&large(packet(net.pod_b, net.pod_a, udp(53, 40_000))));
    let undone = with(large(packet(net.vip(0), net.pod_a, udp(8000, 40_000))), |p| p.ttl = 63);
    for (id, order) in (1..).zip(ORDERS) {
        assert_eq!(
            send(&mut world, Place::PortA, &cut(&request, id, STEP), &order),
            (Hop::PortToPort, to(net.pod_b, delivered.clone()))
        );
        assert_eq!(
            send(&mut world, Place::PortB, &cut(&reply, id, STEP), &order),
            (Hop::PortToPort, to(net.pod_a, undone.clone()))
        );
    }
}

fn of_the_host(net: &Net) {
    let mut world = World::new(&name(net, "large_host"));
    dns(net, &mut world, net.pod_c);
    let request = from_host(&large(packet(net.gateway, net.vip(0), udp(40_000, 8000))));
    let (hop, _) = send(&mut world, Place::HostPort, &cut(&request, 1, STEP), &ORDERS[1]);
    assert_eq!(hop, Hop::PortToOverlay);
    let reply = large(packet(net.pod_c, net.gateway, udp(53, 40_000)));
    let undone = large(packet(net.vip(0), net.gateway, udp(8000, 40_000)));
    assert_eq!(
        send(&mut world, Place::Uplink, &cut(&arriving(PEER, &reply), 1, STEP), &ORDERS[1]),
        (Hop::UplinkToHost, to_host(undone))
    );
}

fn each_for_itself(net: &Net) {
    let mut world = World::new(&name(net, "large_mixed"));
    let backend = |port: u8| {
        service(&port.to_string(), Protocol::Udp, net.vip(port), &[(net.pod_b, 50 + u16::from(port))])
    };
    world.set_services(&[backend(0), backend(1)]);
    let pieces = |vip, id| cut(&from(&large(packet(net.pod_a, vip, udp(40_000, 8000)))), id, STEP);
    let (one, other) = (pieces(net.vip(0), 1), pieces(net.vip(1), 1));
    let mut out = [Vec::new(), Vec::new()];
    for (one, other) in one.iter().zip(&other) {
        out[0].push(sent(&mut world, Place::PortA, one).1);
        out[1].push(sent(&mut world, Place::PortA, other).1);
    }
    for (port, out) in (50..).zip(out) {
        let delivered = with(large(packet(net.pod_a, net.pod_b, udp(40_000, port))), |p| p.ttl = 63);
        assert_eq!(put_together(&out), to(net.pod_b, delivered));
    }
}

fn looks_like_the_hosts(net: &Net) {
    let mut world = World::new(&name(net, "large_alike"));
    dns(net, &mut world, net.pod_a);
    let of_host = from_host(&packet(net.gateway, net.vip(0), udp(40_000, 8000)));
    sent(&mut world, Place::HostPort, &of_host);
    let of_pod = cut(&from(&large(packet(net.pod_a, net.vip(0), udp(40_000, 8000)))), 1, STEP);
    let out: Vec<_> = of_pod.iter().map(|piece| sent(&mut world, Place::PortA, piece).1).collect();
    let Body::Ip(arrived) = put_together(&out).body else { panic!("no plain packet") };
    assert_eq!((arrived.src, arrived.dst), (net.gateway, net.pod_a));
    assert_ne!(arrived.transport.ports().0, 40_000, "the host's own request has this port");
}

fn first_comes_late(net: &Net) {
    let mut world = World::new(&name(net, "large_late"));
    dns(net, &mut world, net.pod_b);
    let to_vip = cut(&from(&large(packet(net.pod_a, net.vip(0), udp(40_000, 8000)))), 1, STEP);
    assert_eq!(dropped(&mut world, Place::PortA, &to_vip[1]), Drop::FragmentWithoutFirst);
    sent(&mut world, Place::PortA, &to_vip[0]);
    sent(&mut world, Place::PortA, &to_vip[1]);
    let another = cut(&from(&large(packet(net.pod_a, net.vip(0), udp(40_000, 8000)))), 2, STEP);
    assert_eq!(
        dropped(&mut world, Place::PortA, &another[1]),
        Drop::FragmentWithoutFirst,
        "another datagram of the same flow is not known by it"
    );
    let to_pod = from(&large(packet(net.pod_a, net.pod_b, udp(40_000, 53))));
    let delivered = with(large(packet(net.pod_a, net.pod_b, udp(40_000, 53))), |p| p.ttl = 63);
    assert_eq!(
        send(&mut world, Place::PortA, &cut(&to_pod, 3, STEP), &[5, 4, 3, 2, 1, 0]),
        (Hop::PortToPort, to(net.pod_b, delivered))
    );
}

fn first_is_refused(net: &Net) {
    let mut world = World::new(&name(net, "large_refused"));
    dns(net, &mut world, net.pod_b);
    let pieces = cut(&from(&large(packet(net.pod_a, net.vip(0), udp(40_000, 8000)))), 1, STEP);
    assert_eq!(
        dropped(&mut world, Place::PortB, &pieces[0]),
        Drop::ForgedSource,
        "B says something in A's name"
    );
    assert_eq!(dropped(&mut world, Place::PortA, &pieces[1]), Drop::FragmentWithoutFirst);
}

fn between_pods(net: &Net) {
    let mut world = World::new(&name(net, "large_pods"));
    let out = large(packet(net.pod_a, net.pod_c, udp(40_000, 53)));
    let wire = with(out.clone(), |p| p.ttl = 63);
    let back = large(packet(net.pod_c, net.pod_a, udp(53, 40_000)));
    for (id, order) in (1..).zip(ORDERS) {
        assert_eq!(
            send(&mut world, Place::PortA, &cut(&from(&out), id, STEP), &order),
            (Hop::PortToOverlay, wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), wire.clone()))
        );
        assert_eq!(
            send(&mut world, Place::Uplink, &cut(&arriving(PEER, &back), id, STEP), &order),
            (Hop::UplinkToPort, to(net.pod_a, back.clone()))
        );
    }
}

fn backends_change(net: &Net) {
    let mut world = World::new(&name(net, "large_change"));
    let backends: Vec<_> = (1..=8).map(|n| (net.far(n), 53)).collect();
    for (id, port) in (1..=20).zip(40_000..) {
        world.set_services(&[service("dns", Protocol::Udp, net.vip(0), &backends[..4])]);
        let request = from(&large(packet(net.pod_a, net.vip(0), udp(port, 8000))));
        let pieces = cut(&request, id, STEP);
        let mut out = vec![sent(&mut world, Place::PortA, &pieces[0]).1];
        world.set_services(&[service("dns", Protocol::Udp, net.vip(0), &backends)]);
        out.extend(pieces[1..].iter().map(|piece| sent(&mut world, Place::PortA, piece).1));
        put_together(&out);
    }
}
