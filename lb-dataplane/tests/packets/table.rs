//! One story a test: a packet in, a packet out, and why.

use lb_dataplane::{
    Drop, Hop,
    desired::{Affinity, DEFAULT_AFFINITY_TIMEOUT, Protocol, Service},
};

use crate::{
    build::{
        arriving, dropped, echo, from, from_host, name, packet, sent, syn, tcp, to, to_host, udp, with,
        wrapped,
    },
    chain::{HOP_BY_HOP, padding},
    frame::{Body, Transport},
    net::{Net, mac},
    world::{NODE, Outcome, PEER, PLAIN, PLAIN_MAC, Place, VNI, World, service},
};

/// What is told of one family.
pub type Story = fn(&Net);

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("a5_request_is_rewritten_and_a_flow_pair_created", request_and_reply_across_nodes),
    ("a5_request_and_reply_on_one_node", request_and_reply_on_one_node),
    ("a9_affinity_keeps_a_client_with_its_backend", affinity),
    ("a8_dsr_off_is_left_to_the_host", dsr_off),
    ("pod_to_pod_is_not_changed_but_for_ttl_and_macs", pod_to_pod),
    ("plain_vtep_gets_the_mac_it_wants", plain_vtep),
    ("host_reaches_pods_and_its_replies_come_back_to_it", host_to_pod),
    ("host_forwarding_for_a_pod_gets_the_replies", host_forwards_for_a_pod),
    ("pod_reaches_the_host_and_outside", pod_to_host_and_outside),
    ("a_finished_connection_does_not_disturb_a_direct_one", direct_after_vip),
    ("a_pod_inherits_nothing_of_its_address", inherited_address),
    ("ip_options_and_no_udp_checksum_survive", options_and_zero_checksum),
    ("established_flows_stay_when_backends_change", flows_stay),
    ("a_syn_after_fin_is_balanced_anew", syn_after_fin),
    ("service_counters_count_both_directions", service_counters),
];

fn request_and_reply_across_nodes(net: &Net) {
    let mut world = World::new(&name(net, "across"));
    world.set_services(&[echo(net, &[(net.pod_c, 80)])]);
    let request = packet(net.pod_a, net.vip(0), syn(40_000, 8000));
    let on_the_wire = packet(net.pod_a, net.pod_c, syn(40_000, 80));
    let on_the_wire = with(on_the_wire, |p| p.ttl = 63);
    assert_eq!(
        sent(&mut world, Place::PortA, &from(&request)),
        (Hop::PortToOverlay, wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), on_the_wire))
    );
    let reply = packet(net.pod_c, net.pod_a, tcp(80, 40_000));
    assert_eq!(
        sent(&mut world, Place::Uplink, &arriving(PEER, &reply)),
        (Hop::UplinkToPort, to(net.pod_a, packet(net.vip(0), net.pod_a, tcp(8000, 40_000))))
    );
    let flows = world.view().flows().unwrap();
    let halves: Vec<_> = flows.iter().map(|flow| (flow.forward, flow.service != 0)).collect();
    assert!(halves.contains(&(true, true)) && halves.contains(&(false, true)), "{flows:?}");
}

fn request_and_reply_on_one_node(net: &Net) {
    let mut world = World::new(&name(net, "one_node"));
    world.set_services(&[echo(net, &[(net.pod_b, 80)])]);
    let request = packet(net.pod_a, net.vip(0), syn(40_000, 8000));
    let delivered = with(packet(net.pod_a, net.pod_b, syn(40_000, 80)), |p| p.ttl = 63);
    assert_eq!(sent(&mut world, Place::PortA, &from(&request)), (Hop::PortToPort, to(net.pod_b, delivered)));
    let reply = packet(net.pod_b, net.pod_a, tcp(80, 40_000));
    let undone = with(packet(net.vip(0), net.pod_a, tcp(8000, 40_000)), |p| p.ttl = 63);
    assert_eq!(sent(&mut world, Place::PortB, &from(&reply)), (Hop::PortToPort, to(net.pod_a, undone)));
}

fn affinity(net: &Net) {
    let mut world = World::new(&name(net, "affinity"));
    let backends: Vec<_> = (1..=5).map(|n| (net.far(n), 80)).collect();
    let backend_of = |world: &mut World, port: u16| {
        let request = packet(net.pod_a, net.vip(0), syn(port, 8000));
        let (_, frame) = sent(world, Place::PortA, &from(&request));
        let Body::Vxlan { inner, .. } = frame.body else { panic!("not wrapped") };
        let Body::Ip(packet) = inner.body else { panic!("not IP") };
        packet.dst
    };
    world.set_services(&[Service {
        affinity: Affinity::ClientIp { timeout: DEFAULT_AFFINITY_TIMEOUT },
        ..echo(net, &backends)
    }]);
    let first = backend_of(&mut world, 1);
    assert!((2..1000).all(|port| backend_of(&mut world, port) == first));

    let mut world = World::new(&name(net, "no_affinity"));
    world.set_services(&[echo(net, &backends)]);
    let chosen: std::collections::HashSet<_> = (1..200).map(|port| backend_of(&mut world, port)).collect();
    assert_eq!(chosen.len(), backends.len(), "without affinity every backend gets some");
}

fn dsr_off(net: &Net) {
    let mut world = World::new(&name(net, "dsr_off"));
    world.set_services(&[Service { dsr: false, ..echo(net, &[(net.pod_c, 80)]) }]);
    let request = packet(net.pod_a, net.vip(0), syn(40_000, 8000));
    assert_eq!(
        sent(&mut world, Place::PortA, &from(&request)),
        (Hop::PortToHost, to_host(request.clone())),
        "the host's own service proxy gets it as it was sent"
    );
    // What the host answers does not take the flow away from its service.
    sent(&mut world, Place::HostPort, &from_host(&packet(net.vip(0), net.pod_a, tcp(8000, 40_000))));
    sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), tcp(40_000, 8000))));
    assert_eq!(world.view().services().unwrap()[0].stats.via_host, 2);

    world.set_services(&[echo(net, &[(net.pod_c, 80)])]);
    let (hop, _) = sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), tcp(40_000, 8000))));
    assert_eq!(hop, Hop::PortToHost, "switching DSR on moves no flow that is under way");
    let (hop, _) = sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), syn(40_001, 8000))));
    assert_eq!(hop, Hop::PortToOverlay);
}

fn pod_to_pod(net: &Net) {
    let mut world = World::new(&name(net, "pod_to_pod"));
    for transport in [tcp(1000, 80), udp(1000, 53), Transport::Ping { id: 7 }] {
        let across = packet(net.pod_a, net.pod_c, transport);
        let wire = with(across.clone(), |p| p.ttl = 63);
        for _ in 0..2 {
            assert_eq!(
                sent(&mut world, Place::PortA, &from(&across)),
                (Hop::PortToOverlay, wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), wire.clone()))
            );
        }
        let beside = packet(net.pod_a, net.pod_b, transport);
        let delivered = with(beside.clone(), |p| p.ttl = 63);
        assert_eq!(
            sent(&mut world, Place::PortA, &from(&beside)),
            (Hop::PortToPort, to(net.pod_b, delivered))
        );
        let arrives = packet(net.pod_c, net.pod_a, transport);
        for _ in 0..2 {
            assert_eq!(
                sent(&mut world, Place::Uplink, &arriving(PEER, &arrives)),
                (Hop::UplinkToPort, to(net.pod_a, arrives.clone()))
            );
        }
    }
}

fn plain_vtep(net: &Net) {
    let mut world = World::new(&name(net, "plain_vtep"));
    let out = packet(net.pod_a, net.pod_d, Transport::Ping { id: 1 });
    let wire = with(out.clone(), |p| p.ttl = 63);
    assert_eq!(
        sent(&mut world, Place::PortA, &from(&out)),
        (Hop::PortToOverlay, wrapped(NODE, PLAIN, VNI, PLAIN_MAC, mac(net.pod_a), wire))
    );
}

fn host_to_pod(net: &Net) {
    let mut world = World::new(&name(net, "host_to_pod"));
    let out = packet(net.gateway, net.pod_b, tcp(5000, 80));
    let delivered = with(out.clone(), |p| p.ttl = 63);
    assert_eq!(
        sent(&mut world, Place::HostPort, &from_host(&out)),
        (Hop::PortToPort, to(net.pod_b, delivered))
    );
    let back = packet(net.pod_b, net.gateway, tcp(80, 5000));
    assert_eq!(sent(&mut world, Place::PortB, &from(&back)), (Hop::PortToHost, to_host(back.clone())));
    let nowhere = packet(net.gateway, net.outside, tcp(5000, 80));
    assert_eq!(
        dropped(&mut world, Place::HostPort, &from_host(&nowhere)),
        Drop::NoRoute,
        "the host's routes sent it here: it must not go round"
    );
}

fn host_forwards_for_a_pod(net: &Net) {
    let mut world = World::new(&name(net, "host_forwards"));
    // kube-proxy has turned A → net.vip(0) into A → C, and the host forwards it.
    let forwarded = packet(net.pod_a, net.pod_c, tcp(40_000, 80));
    let (hop, _) = sent(&mut world, Place::HostPort, &from_host(&forwarded));
    assert_eq!(hop, Hop::PortToOverlay);
    let reply = packet(net.pod_c, net.pod_a, tcp(80, 40_000));
    assert_eq!(
        sent(&mut world, Place::Uplink, &arriving(PEER, &reply)),
        (Hop::UplinkToHost, to_host(reply.clone())),
        "its conntrack must see the reply to undo what it did"
    );
}

fn pod_to_host_and_outside(net: &Net) {
    let mut world = World::new(&name(net, "pod_to_host"));
    for &dst in [net.gateway, net.outside].iter().chain(net.underlay) {
        let out = packet(net.pod_a, dst, tcp(40_000, 22));
        assert_eq!(sent(&mut world, Place::PortA, &from(&out)), (Hop::PortToHost, to_host(out.clone())));
    }
    let back = packet(net.outside, net.pod_a, tcp(22, 40_000));
    let delivered = with(back.clone(), |p| p.ttl = 63);
    assert_eq!(
        sent(&mut world, Place::HostPort, &from_host(&back)),
        (Hop::PortToPort, to(net.pod_a, delivered))
    );
}

fn direct_after_vip(net: &Net) {
    let mut world = World::new(&name(net, "direct_after_vip"));
    world.set_services(&[echo(net, &[(net.pod_c, 80)])]);
    let fin = |src, dst| Transport::Tcp { src, dst, syn: false, ack: true, fin: true };
    for transport in [syn(40_000, 8000), fin(40_000, 8000)] {
        sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), transport)));
    }
    sent(&mut world, Place::Uplink, &arriving(PEER, &packet(net.pod_c, net.pod_a, fin(80, 40_000))));
    sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.pod_c, syn(40_000, 80))));
    let reply = packet(net.pod_c, net.pod_a, tcp(80, 40_000));
    assert_eq!(
        sent(&mut world, Place::Uplink, &arriving(PEER, &reply)),
        (Hop::UplinkToPort, to(net.pod_a, reply.clone())),
        "the backend answers for itself"
    );
}

fn inherited_address(net: &Net) {
    let mut world = World::new(&name(net, "inherited"));
    world.set_services(&[echo(net, &[(net.pod_c, 80)])]);
    let reply = packet(net.pod_c, net.pod_a, tcp(80, 40_000));
    let undone = packet(net.vip(0), net.pod_a, tcp(8000, 40_000));
    let ask = |world: &mut World| {
        sent(world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), syn(40_000, 8000))))
    };
    let answer = |world: &mut World| sent(world, Place::Uplink, &arriving(PEER, &reply)).1;
    ask(&mut world);
    assert_eq!(answer(&mut world), to(net.pod_a, undone.clone()));
    // Another pod, on another port, now has the address.
    world.set_endpoint(net.pod_a, Some(world.devices.uplink));
    assert_eq!(answer(&mut world), to(net.pod_a, reply.clone()), "it never asked the net.vip(0)");

    world.set_endpoint(net.pod_a, Some(world.devices.port_a));
    ask(&mut world);
    assert_eq!(answer(&mut world), to(net.pod_a, undone));
    world.set_services(&[]);
    assert_eq!(answer(&mut world), to(net.pod_a, reply.clone()), "there is no such service any more");
}

fn options_and_zero_checksum(net: &Net) {
    let mut world = World::new(&name(net, "options"));
    world.set_services(&[service("dns", Protocol::Udp, net.vip(0), &[(net.pod_c, 53)])]);
    for checksum in [true, false] {
        let transport = Transport::Udp { src: 40_000, dst: 8000, checksum };
        // Four words of "no operation", or a header of padding.
        let options = if net.gateway.is_ipv4() { vec![1; 16] } else { padding(HOP_BY_HOP, 16) };
        let request = with(packet(net.pod_a, net.vip(0), transport), |p| p.options = options);
        let (_, frame) = sent(&mut world, Place::PortA, &from(&request));
        let wire = with(request.clone(), |p| {
            p.ttl = 63;
            p.dst = net.pod_c;
            p.transport = transport.with_ports(40_000, 53);
        });
        assert_eq!(frame, wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), wire));
    }
}

fn flows_stay(net: &Net) {
    let mut world = World::new(&name(net, "flows_stay"));
    let backends: Vec<_> = (1..=4).map(|n| (net.far(n), 80)).collect();
    world.set_services(&[echo(net, &backends)]);
    let backend_of = |world: &mut World, port: u16, transport: fn(u16, u16) -> Transport| {
        let (_, frame) =
            sent(world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), transport(port, 8000))));
        let Body::Vxlan { inner, .. } = frame.body else { panic!("not wrapped") };
        let Body::Ip(packet) = inner.body else { panic!("not IP") };
        packet.dst
    };
    let before: Vec<_> = (1..=200).map(|port| backend_of(&mut world, port, syn)).collect();

    world.set_services(&[echo(net, &[&backends[..], &[(net.pod_b, 80)]].concat())]);
    let more: Vec<_> = (1..=200).map(|port| backend_of(&mut world, port, tcp)).collect();
    assert_eq!(before, more, "a new backend takes no flow that is under way");

    world.set_services(&[echo(net, &backends[1..])]);
    for (port, &was) in (1..=200).zip(&before) {
        if was == backends[0].0 {
            let now = backend_of(&mut world, port, syn);
            assert_ne!(now, was, "its backend is gone");
        } else {
            let now = backend_of(&mut world, port, tcp);
            assert_eq!(now, was, "its backend is still there");
        }
    }
}

fn syn_after_fin(net: &Net) {
    let mut world = World::new(&name(net, "syn_after_fin"));
    world.set_services(&[echo(net, &[(net.pod_b, 80)])]);
    let fin = Transport::Tcp { src: 1, dst: 8000, syn: false, ack: true, fin: true };
    for transport in [syn(1, 8000), fin] {
        sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), transport)));
    }
    world.set_services(&[echo(net, &[(net.pod_b, 80), (net.pod_c, 80)])]);
    let new_flows = |world: &World| world.view().services().unwrap()[0].stats.new_flows;
    sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), tcp(1, 8000))));
    assert_eq!(new_flows(&world), 1, "the last ACKs of a connection belong to it");
    match world.run(Place::PortA, &from(&packet(net.pod_a, net.vip(0), syn(1, 8000))).encode()) {
        Outcome::Sent(..) => assert_eq!(new_flows(&world), 2),
        other => panic!("{other:?}"),
    }
}

fn service_counters(net: &Net) {
    let mut world = World::new(&name(net, "counters"));
    world.set_services(&[echo(net, &[(net.pod_c, 80)])]);
    let request = from(&packet(net.pod_a, net.vip(0), tcp(1, 8000)));
    let reply = arriving(PEER, &packet(net.pod_c, net.pod_a, tcp(80, 1)));
    for _ in 0..3 {
        sent(&mut world, Place::PortA, &request);
        sent(&mut world, Place::Uplink, &reply);
    }
    let stats = world.view().services().unwrap()[0].stats;
    let bytes = 3 * u64::try_from(request.encode().len()).unwrap();
    assert_eq!((stats.packets, stats.bytes, stats.new_flows), (3, bytes, 1));
    assert_eq!((stats.replies_undone, stats.via_host), (3, 0));

    // A backend that is reached through the host's stack: balanced here, but not direct.
    world.set_services(&[echo(net, &[(net.gateway, 80)])]);
    let (hop, _) = sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), syn(2, 8000))));
    let stats = world.view().services().unwrap()[0].stats;
    assert_eq!((hop, stats.packets, stats.via_host), (Hop::PortToHost, 3, 1));
}
