//! Stories of services that cannot take a request, and of backends that go.

use std::net::IpAddr;

use lb_dataplane::{
    Drop, Hop, Mac,
    desired::{Backend, BackendState, Protocol, Service, WithoutBackends},
};

use crate::{
    answers::Answer,
    build::{dropped, echo, from, from_host, name, packet, sent, syn, tcp, udp, with},
    fragment::cut,
    frame::{Body, Frame, Transport},
    net::{NETS, Net},
    table::Story,
    world::{Outcome, Place, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("c_no_endpoints_are_told_at_once", no_endpoints),
    ("c_none_local_is_dropped_in_silence", none_local),
    ("c_a_wrong_port_on_a_vip_is_refused", wrong_port),
    ("c_answers_answer_no_answers", no_answer_to_answers),
    ("c_a_draining_backend_keeps_its_connections_and_gets_no_more", draining),
    ("c_udp_leaves_a_draining_backend", draining_udp),
    ("c_a_connection_goes_on_whose_frontend_is_another_services_now", moved),
    ("c_a_connection_whose_backend_vanished_is_reset", vanished),
    ("c_udp_from_one_port_follows_its_service", udp_cycles),
    ("every_backend_is_shown_whatever_family_its_service_is_found_by", shown),
];

/// Who sends, and the answer that it got with its reason.
#[track_caller]
pub fn told(world: &mut World, place: Place, frame: &Frame) -> (Drop, Answer) {
    match world.run(place, &frame.encode()) {
        Outcome::Answered(reason, bytes) => (reason, Answer::decode(&bytes).unwrap()),
        other => panic!("{other:?}"),
    }
}

/// A pod and the host as clients of the first VIP.
fn clients(net: &Net, transport: Transport) -> [(Place, Frame); 2] {
    [
        (Place::PortA, from(&packet(net.pod_a, net.vip(0), transport))),
        (Place::HostPort, from_host(&packet(net.gateway, net.vip(0), transport))),
    ]
}

/// The backend that a packet of pod A's went to.
#[track_caller]
pub fn backend_of(world: &mut World, net: &Net, transport: Transport) -> IpAddr {
    let (_, frame) = sent(world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), transport)));
    destination(frame)
}

/// Where the IP packet in `frame`, wrapped or not, goes.
fn destination(frame: Frame) -> IpAddr {
    match frame.body {
        Body::Vxlan { inner, .. } => destination(*inner),
        Body::Ip(packet) => packet.dst,
        other => panic!("{other:?}"),
    }
}

fn no_endpoints(net: &Net) {
    let mut world = World::new(&name(net, "no_endpoints"));
    let udp_service = service("dns", Protocol::Udp, net.vip(0), &[]);
    world.set_services(&[echo(net, &[]), udp_service]);
    let fin = |src, dst| Transport::Tcp { src, dst, syn: false, ack: false, fin: true };
    for transport in [syn(1, 8000), tcp(1, 8000), fin(1, 8000), udp(1, 8000)] {
        for (place, frame) in clients(net, transport) {
            for payload in [0, 1, 13, 600, 1400] {
                let Body::Ip(packet) = &frame.body else { panic!() };
                let packet = with(packet.clone(), |p| p.payload = vec![7; payload]);
                let frame = Frame { body: Body::Ip(packet), ..frame.clone() };
                let refusal = (Drop::NoBackend, Answer::refusal(&frame));
                assert_eq!(told(&mut world, place, &frame), refusal, "{payload} bytes");
            }
        }
    }
    if net.gateway.is_ipv4() {
        for words in 1..=10 {
            for transport in [syn(1, 8000), udp(1, 8000)] {
                let request = packet(net.pod_a, net.vip(0), transport);
                let frame = from(&with(request, |p| p.options = vec![1; words * 4]));
                let refusal = (Drop::NoBackend, Answer::refusal(&frame));
                assert_eq!(told(&mut world, Place::PortA, &frame), refusal, "{words} words of options");
            }
        }
    }
}

fn none_local(net: &Net) {
    let mut world = World::new(&name(net, "none_local"));
    world.set_services(&[Service { without_backends: WithoutBackends::Drop, ..echo(net, &[]) }]);
    for (place, frame) in clients(net, syn(1, 8000)) {
        assert_eq!(dropped(&mut world, place, &frame), Drop::NoLocalBackend);
    }
}

fn wrong_port(net: &Net) {
    let mut world = World::new(&name(net, "wrong_port"));
    world.set_services(&[echo(net, &[(net.pod_b, 80)])]);
    for transport in [syn(1, 8001), udp(1, 8001), udp(1, 8000)] {
        for (place, frame) in clients(net, transport) {
            assert_eq!(told(&mut world, place, &frame), (Drop::NoFrontend, Answer::refusal(&frame)));
        }
    }
    let elsewhere = from(&packet(net.pod_a, net.vip(1), syn(1, 8001)));
    assert_eq!(sent(&mut world, Place::PortA, &elsewhere).0, Hop::PortToHost, "no service is there");
    world.set_services(&[Service { dsr: false, ..echo(net, &[(net.pod_b, 80)]) }]);
    let left = from(&packet(net.pod_a, net.vip(0), syn(1, 8001)));
    assert_eq!(sent(&mut world, Place::PortA, &left).0, Hop::PortToHost, "the address is the host's affair");
}

fn no_answer_to_answers(net: &Net) {
    let mut world = World::new(&name(net, "no_answer"));
    world.set_services(&[echo(net, &[])]);
    let mut reset = from(&packet(net.pod_a, net.vip(0), tcp(1, 8000))).encode();
    let flags = if net.gateway.is_ipv4() { 14 + 20 + 13 } else { 14 + 40 + 13 };
    reset[flags] = 0x04;
    assert_eq!(world.run(Place::PortA, &reset), Outcome::Dropped(Drop::NoBackend));
    // A first fragment of TCP could be answered by no reset that is sure to fit; nobody sends such.
    let pieces = cut(&from(&packet(net.pod_a, net.vip(0), tcp(1, 8000))), 1, 3);
    assert_eq!(world.run(Place::PortA, &pieces[0].encode()), Outcome::Dropped(Drop::NoBackend));
}

/// The echo service over these backends, the last of which drains.
fn last_drains(net: &Net, protocol: Protocol, backends: &[(IpAddr, u16)]) -> Service {
    let mut service = service("echo", protocol, net.vip(0), backends);
    service.backends.last_mut().unwrap().state = BackendState::Draining;
    service
}

fn draining(net: &Net) {
    let mut world = World::new(&name(net, "draining"));
    world.set_services(&[echo(net, &[(net.pod_b, 80)])]);
    for port in 1..=20 {
        assert_eq!(backend_of(&mut world, net, syn(port, 8000)), net.pod_b);
        assert_eq!(backend_of(&mut world, net, tcp(port, 8000)), net.pod_b);
    }
    assert_eq!(backend_of(&mut world, net, syn(30, 8000)), net.pod_b);
    world.set_services(&[last_drains(net, Protocol::Tcp, &[(net.pod_c, 80), (net.pod_b, 80)])]);
    let backends: Vec<Backend> =
        world.view().services().unwrap()[0].backends.iter().map(|(backend, _)| *backend).collect();
    assert!(backends.iter().any(|b| b.address == net.pod_b && b.state == BackendState::Draining));
    for port in 1..=20 {
        assert_eq!(backend_of(&mut world, net, tcp(port, 8000)), net.pod_b, "it is under way");
        assert_eq!(backend_of(&mut world, net, syn(port, 8000)), net.pod_c, "a new one");
    }
    assert_eq!(backend_of(&mut world, net, syn(30, 8000)), net.pod_c, "a SYN that nobody answered");
    for port in 40..60 {
        assert_eq!(backend_of(&mut world, net, syn(port, 8000)), net.pod_c);
    }
}

fn shown(net: &Net) {
    let mut world = World::new(&name(net, "shown"));
    let all = NETS.map(|net| (net.pod_b, 80));
    world.set_services(&[echo(net, &all)]);
    let services = world.view().services().unwrap();
    let mut backends: Vec<_> = services[0].backends.iter().map(|(backend, _)| backend.address).collect();
    backends.sort();
    assert_eq!(backends, all.map(|(address, _)| address), "found by one family only");
}

fn draining_udp(net: &Net) {
    let mut world = World::new(&name(net, "draining_udp"));
    world.set_services(&[service("echo", Protocol::Udp, net.vip(0), &[(net.pod_b, 53)])]);
    assert_eq!(backend_of(&mut world, net, udp(12345, 8000)), net.pod_b);
    world.set_services(&[last_drains(net, Protocol::Udp, &[(net.pod_c, 53), (net.pod_b, 53)])]);
    assert_eq!(backend_of(&mut world, net, udp(12345, 8000)), net.pod_c);
}

/// As when a traffic policy gives a node's port to a part of the service of its own.
fn moved(net: &Net) {
    let mut world = World::new(&name(net, "moved"));
    let [b, c] = [(net.pod_b, 80), (net.pod_c, 80)];
    let elsewhere = |service: Service| {
        let frontends = vec![lb_dataplane::desired::Frontend { vip: net.vip(5), ..service.frontends[0] }];
        Service { frontends, ..service }
    };
    let part = |backends: &[(IpAddr, u16)]| Service { name: "part".into(), ..echo(net, backends) };
    world.set_services(&[echo(net, &[b])]);
    assert_eq!(backend_of(&mut world, net, syn(1, 8000)), net.pod_b);
    assert_eq!(backend_of(&mut world, net, tcp(1, 8000)), net.pod_b);
    world.set_services(&[elsewhere(echo(net, &[b])), part(&[c])]);
    assert_eq!(backend_of(&mut world, net, tcp(1, 8000)), net.pod_b, "it is under way");
    assert_eq!(backend_of(&mut world, net, syn(1, 8000)), net.pod_c, "a new one");
    // It stays while the service that it began with has the backend.
    assert_eq!(backend_of(&mut world, net, tcp(1, 8000)), net.pod_c);
    world.set_services(&[elsewhere(part(&[])), echo(net, &[b])]);
    let ack = from(&packet(net.pod_a, net.vip(0), tcp(1, 8000)));
    assert_eq!(told(&mut world, Place::PortA, &ack).0, Drop::BackendGone);
}

fn vanished(net: &Net) {
    let mut world = World::new(&name(net, "vanished"));
    let gone = echo(net, &[(net.pod_b, 80)]);
    let elsewhere = echo(net, &[(net.pod_c, 80)]);
    for (n, services) in [vec![elsewhere.clone()], vec![echo(net, &[])], vec![]].iter().enumerate() {
        for (place, ack) in clients(net, tcp(9, 8000)) {
            world.forget_flows();
            world.set_services(std::slice::from_ref(&gone));
            let opening =
                Frame { body: Body::Ip(with(ip(&ack), |p| p.transport = syn(9, 8000))), ..ack.clone() };
            sent(&mut world, place, &opening);
            sent(&mut world, place, &ack);
            world.set_services(services);
            for _ in 0..3 {
                let reset = (Drop::BackendGone, Answer::refusal(&ack));
                assert_eq!(told(&mut world, place, &ack), reset, "{n}");
            }
            if n == 0 {
                sent(&mut world, place, &opening);
                let (_, frame) = sent(&mut world, place, &ack);
                assert_ne!(frame.dst_mac, Mac::GATEWAY.0, "a SYN begins anew, elsewhere");
            }
        }
    }
    // It comes back: the connections it had do not.
    world.set_services(std::slice::from_ref(&gone));
    sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), syn(10, 8000))));
    world.set_services(&[]);
    world.set_services(&[gone]);
    let ack = from(&packet(net.pod_a, net.vip(0), tcp(10, 8000)));
    assert_eq!(told(&mut world, Place::PortA, &ack).0, Drop::BackendGone);
}

fn ip(frame: &Frame) -> crate::frame::Packet {
    match &frame.body {
        Body::Ip(packet) => packet.clone(),
        other => panic!("{other:?}"),
    }
}

fn udp_cycles(net: &Net) {
    let mut world = World::new(&name(net, "udp_cycles"));
    let dns = |backends: &[(IpAddr, u16)]| service("dns", Protocol::Udp, net.vip(0), backends);
    for (place, datagram) in clients(net, udp(12345, 8000)) {
        world.set_services(&[dns(&[(net.pod_b, 53)])]);
        let went = |world: &mut World| destination(sent(world, place, &datagram).1);
        assert_eq!(went(&mut world), net.pod_b);
        world.set_services(&[dns(&[])]);
        assert_eq!(told(&mut world, place, &datagram), (Drop::NoBackend, Answer::refusal(&datagram)));
        world.set_services(&[dns(&[(net.pod_c, 53)])]);
        assert_eq!(went(&mut world), net.pod_c);
        world.set_services(&[]);
        match place {
            Place::HostPort => assert_eq!(dropped(&mut world, place, &datagram), Drop::NoRoute),
            _ => assert_eq!(sent(&mut world, place, &datagram).0, Hop::PortToHost, "no service, no backend"),
        }
        world.set_services(&[dns(&[(net.pod_b, 54)])]);
        assert_eq!(went(&mut world), net.pod_b);
    }
}
