//! Stories of requests that would look alike to their backend: a pod that reaches itself, and connections from one client
//! port to one backend by several ways. Told in every order there is.

use std::collections::HashSet;

use lb_dataplane::{
    Drop, Hop,
    desired::{Affinity, Protocol, Service},
};

use crate::{
    build::{
        arriving, dropped, echo, from, from_host, name, packet, sent, syn, tcp, to, to_host, udp, with,
        wrapped,
    },
    frame::{Body, Frame, Packet, Transport},
    net::{Net, mac},
    services::backend_of,
    table::Story,
    world::{NODE, PEER, Place, VNI, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("c_a_pod_reaches_itself_through_its_service", hairpin),
    ("c_a_nodes_process_is_not_taken_for_a_pod_that_reaches_itself", hairpin_beside_host),
    ("c_a_nodes_process_reaches_backends_that_only_its_host_leads_to", host_to_host),
    ("c_a_nodes_process_may_ask_from_its_underlay_address", from_underlay_address),
    ("c_connections_that_look_alike_live_side_by_side_in_every_order", look_alikes),
    ("c_datagrams_that_look_alike_live_side_by_side", alike_datagrams),
    ("c_affinity_misses_when_its_backend_goes_and_never_drops", affinity_misses),
];

const PORT: u16 = 40_000;

/// Packet in a frame, wrapped or not.
fn ip(frame: Frame) -> Packet {
    match frame.body {
        Body::Vxlan { inner, .. } => ip(*inner),
        Body::Ip(packet) => packet,
        other @ (Body::Other { .. } | Body::Fragment(_)) => panic!("{other:?}"),
    }
}

/// What answers `request`, as it arrived, with these flags of TCP.
fn reply(request: &Packet, syn: bool, fin: bool) -> Packet {
    let (src, dst) = request.transport.ports();
    let transport = match request.transport {
        Transport::Udp { .. } => udp(dst, src),
        _ => Transport::Tcp { src: dst, dst: src, syn, ack: true, fin },
    };
    packet(request.dst, request.src, transport)
}

fn hairpin(net: &Net) {
    let mut world = World::new(&name(net, "hairpin"));
    world.set_services(&[Service {
        backends: echo_at(net).backends,
        ..service("echo", Protocol::Tcp, net.vip(0), &[])
    }]);
    for transport in [syn(PORT, 8000), tcp(PORT, 8000)] {
        let seen = with(packet(net.gateway, net.pod_a, transport.with_ports(PORT, 80)), |p| p.ttl = 63);
        let request = from(&packet(net.pod_a, net.vip(0), transport));
        assert_eq!(sent(&mut world, Place::PortA, &request), (Hop::PortToPort, to(net.pod_a, seen)));
        let answer = from(&packet(net.pod_a, net.gateway, tcp(80, PORT)));
        let undone = with(packet(net.vip(0), net.pod_a, tcp(8000, PORT)), |p| p.ttl = 63);
        assert_eq!(sent(&mut world, Place::PortA, &answer), (Hop::PortToPort, to(net.pod_a, undone.clone())));
        // Whatever else changes meanwhile, and whoever speaks first afterwards.
        world.set_endpoint(net.pod_b, None);
        assert_eq!(sent(&mut world, Place::PortA, &answer), (Hop::PortToPort, to(net.pod_a, undone)));
    }
}

/// The echo service on pod A itself.
fn echo_at(net: &Net) -> Service {
    service("echo", Protocol::Tcp, net.vip(0), &[(net.pod_a, 80)])
}

fn hairpin_beside_host(net: &Net) {
    for host_first in [true, false] {
        let mut world = World::new(&name(net, &format!("beside_host_{host_first}")));
        world.set_services(&[echo_at(net)]);
        let host = (Place::HostPort, from_host(&packet(net.gateway, net.pod_a, syn(PORT, 80))));
        let pod = (Place::PortA, from(&packet(net.pod_a, net.vip(0), syn(PORT, 8000))));
        let order = if host_first { [host, pod] } else { [pod, host] };
        let arrived = order.map(|(place, frame)| (place, ip(sent(&mut world, place, &frame).1)));
        for (place, request) in &arrived {
            let (hop, back) = sent(&mut world, Place::PortA, &from(&reply(request, true, false)));
            let back = ip(back);
            let (from_whom, to_whom) = match place {
                Place::HostPort => (net.pod_a, net.gateway),
                _ => (net.vip(0), net.pod_a),
            };
            assert_eq!((back.src, back.dst, back.transport.ports().1), (from_whom, to_whom, PORT));
            assert_eq!(hop, if *place == Place::HostPort { Hop::PortToHost } else { Hop::PortToPort });
        }
        assert_ne!(arrived[0].1.transport.ports(), arrived[1].1.transport.ports());
    }
}

/// The node itself, and machines beyond it.
fn host_to_host(net: &Net) {
    let mut world = World::new(&name(net, "host_to_host"));
    for &backend in [net.gateway, net.outside].iter().chain(net.underlay.first()) {
        world.set_services(&[echo(net, &[(backend, 80)])]);
        for transport in [syn(PORT, 8000), tcp(PORT, 8000)] {
            let request = from_host(&packet(net.gateway, net.vip(0), transport));
            let seen = packet(net.loopback, backend, transport.with_ports(PORT, 80));
            assert_eq!(sent(&mut world, Place::HostPort, &request), (Hop::PortToHost, to_host(seen)));
            let answer = from_host(&packet(backend, net.loopback, tcp(80, PORT)));
            let undone = packet(net.vip(0), net.gateway, tcp(8000, PORT));
            assert_eq!(sent(&mut world, Place::HostPort, &answer), (Hop::PortToHost, to_host(undone)));
        }
    }
}

/// The peer asks pod A, and this node asks a pod of the peer's; each is answered by way of the overlay, also after whatever
/// makes flows stale.
fn from_underlay_address(net: &Net) {
    let [node, peer, ..] = *net.underlay else {
        return;
    };
    let mut world = World::new(&name(net, "underlay_address"));
    for (transport, answering) in [(syn(PORT, 80), tcp(80, PORT)), (udp(PORT, 53), udp(53, PORT))] {
        let request = packet(peer, net.pod_a, transport);
        let seen = (Hop::UplinkToPort, to(net.pod_a, request.clone()));
        let answer = packet(net.pod_a, peer, answering);
        let answered = with(answer.clone(), |p| p.ttl = 63);
        let back = wrapped(NODE, PEER, VNI, mac(peer), mac(net.pod_a), answered);
        let asked = packet(node, net.pod_c, transport);
        let returned = packet(net.pod_c, node, answering);
        for _ in 0..2 {
            assert_eq!(sent(&mut world, Place::Uplink, &arriving(PEER, &request)), seen);
            assert_eq!(sent(&mut world, Place::HostPort, &from_host(&asked)).0, Hop::PortToOverlay);
            for _ in 0..2 {
                assert_eq!(
                    sent(&mut world, Place::PortA, &from(&answer)),
                    (Hop::PortToOverlay, back.clone())
                );
                let arrived = sent(&mut world, Place::Uplink, &arriving(PEER, &returned));
                assert_eq!(arrived, (Hop::UplinkToHost, to_host(returned.clone())));
                world.set_services(&[echo(net, &[(net.pod_b, 80)])]);
                world.set_services(&[]);
            }
        }
    }
    // What nobody asked for goes where it always went.
    let unasked = from(&packet(net.pod_a, peer, udp(54, PORT)));
    assert_eq!(sent(&mut world, Place::PortA, &unasked).0, Hop::PortToHost);
    let unasked = arriving(PEER, &packet(net.pod_c, node, udp(54, PORT)));
    assert_eq!(dropped(&mut world, Place::Uplink, &unasked), Drop::NoEndpoint);
}

/// All interleavings of sequences that have this many steps each, as the order of who is next.
fn interleavings(left: &mut [usize], so_far: &mut Vec<usize>, told: &mut impl FnMut(&[usize])) {
    if left.iter().all(|&steps| steps == 0) {
        return told(so_far);
    }
    for who in 0..left.len() {
        if left[who] > 0 {
            left[who] -= 1;
            so_far.push(who);
            interleavings(left, so_far, told);
            so_far.pop();
            left[who] += 1;
        }
    }
}

/// Two VIPs and the backend's own address, from one client port: each opens, is answered, and talks; in all 1,680 orders,
/// with the backend on this node and on another.
fn look_alikes(net: &Net) {
    let mut world = World::new(&name(net, "look_alikes"));
    for backend in [net.pod_b, net.pod_c] {
        world.set_services(&[
            service("one", Protocol::Tcp, net.vip(0), &[(backend, 80)]),
            service("two", Protocol::Tcp, net.vip(1), &[(backend, 80)]),
        ]);
        let ways = [(net.vip(0), 8000), (net.vip(1), 8000), (backend, 80)];
        // Each order from a port of its own, which is as good as an empty table.
        let mut client = 10_000;
        interleavings(&mut [3, 3, 3], &mut Vec::new(), &mut |order| {
            client += 1;
            let mut step = [0; 3];
            let mut wire: [Option<Packet>; 3] = [const { None }; 3];
            for &who in order {
                let (dst, port) = ways[who];
                let transport = if step[who] == 0 { syn(client, port) } else { tcp(client, port) };
                if step[who] != 1 {
                    let request = from(&packet(net.pod_a, dst, transport));
                    let arrived = ip(sent(&mut world, Place::PortA, &request).1);
                    assert_eq!((arrived.src, arrived.dst), (net.pod_a, backend));
                    if let Some(before) = &wire[who] {
                        assert_eq!(before.transport.ports(), arrived.transport.ports(), "{order:?}");
                    }
                    wire[who] = Some(arrived);
                }
                if step[who] > 0 {
                    let answer = reply(wire[who].as_ref().unwrap(), step[who] == 1, false);
                    let (_, back) = if backend == net.pod_b {
                        sent(&mut world, Place::PortB, &from(&answer))
                    } else {
                        sent(&mut world, Place::Uplink, &arriving(PEER, &answer))
                    };
                    let back = ip(back);
                    let ends = ((back.src, back.transport.ports().0), back.dst, back.transport.ports().1);
                    assert_eq!(ends, (ways[who], net.pod_a, client), "{order:?} at {who}");
                }
                step[who] += 1;
            }
            let names: HashSet<_> = wire.iter().flatten().map(|packet| packet.transport.ports()).collect();
            assert_eq!(names.len(), 3, "{order:?}");
        });
    }
}

fn alike_datagrams(net: &Net) {
    let mut world = World::new(&name(net, "alike_datagrams"));
    world.set_services(&[
        service("one", Protocol::Udp, net.vip(0), &[(net.pod_c, 53)]),
        service("two", Protocol::Udp, net.vip(1), &[(net.pod_c, 53)]),
    ]);
    let ways = [(net.vip(0), 8000), (net.vip(1), 8000), (net.pod_c, 53)];
    let wire = ways.map(|(dst, port)| {
        ip(sent(&mut world, Place::PortA, &from(&packet(net.pod_a, dst, udp(PORT, port)))).1)
    });
    for _ in 0..2 {
        for (way, request) in ways.iter().zip(&wire) {
            let back = ip(sent(&mut world, Place::Uplink, &arriving(PEER, &reply(request, false, false))).1);
            assert_eq!(((back.src, back.transport.ports().0), back.transport.ports().1), (*way, PORT));
        }
        // Everything is resolved anew, and nothing changes.
        world.set_endpoint(net.unused(), Some(world.devices.port_b));
        world.set_endpoint(net.unused(), None);
        for ((dst, port), before) in ways.iter().zip(&wire) {
            let request = from(&packet(net.pod_a, *dst, udp(PORT, *port)));
            assert_eq!(ip(sent(&mut world, Place::PortA, &request).1).transport, before.transport);
        }
    }
}

fn affinity_misses(net: &Net) {
    let mut world = World::new(&name(net, "affinity_misses"));
    let backends: Vec<_> = (1..=5).map(|n| (net.far(n), 80)).collect();
    let timeout = std::time::Duration::from_secs(1);
    let sticky = |backends: &[_]| Service {
        affinity: Affinity::ClientIp { timeout },
        ..service("echo", Protocol::Tcp, net.vip(0), backends)
    };
    world.set_services(&[sticky(&backends)]);
    let first = backend_of(&mut world, net, syn(1, 8000));
    assert!((2..200).all(|port| backend_of(&mut world, net, syn(port, 8000)) == first));
    let without: Vec<_> = backends.iter().copied().filter(|(backend, _)| *backend != first).collect();
    world.set_services(&[sticky(&without)]);
    let second = backend_of(&mut world, net, syn(201, 8000));
    assert_ne!(second, first, "it is gone");
    assert!((202..400).all(|port| backend_of(&mut world, net, syn(port, 8000)) == second));
    std::thread::sleep(timeout + std::time::Duration::from_millis(100));
    let mut others = HashSet::new();
    for port in 401..440 {
        others.insert(backend_of(&mut world, net, syn(port, 8000)));
        world.set_services(&[Service { affinity: Affinity::None, ..sticky(&without) }]);
    }
    assert!(others.len() > 1, "affinity was switched off");
}
