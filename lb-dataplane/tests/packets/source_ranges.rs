//! Stories of load balancers' addresses that are not for everybody.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_dataplane::{
    Drop,
    desired::{Frontend, Protocol, Service},
};

use crate::{
    answers::Answer,
    build::{dropped, from, from_host, name, packet, syn, tcp, udp},
    frame::{Frame, Transport},
    net::{NETS, Net},
    services::told,
    table::Story,
    world::{Outcome, Place, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("c_source_ranges_hold_for_load_balancers_addresses_alone", load_balancers_alone),
    ("c_source_ranges_are_asked_before_backends", before_backends),
    ("c_source_ranges_are_asked_of_what_begins", what_begins),
    ("c_source_ranges_are_each_services_own", each_services_own),
    ("c_source_ranges_of_the_other_family_say_nothing", other_family),
];

/// The service's own virtual address, one that others share, and a load balancer's.
const OWN: u8 = 0;
const SHARED: u8 = 1;
const BALANCED: u8 = 2;

/// The echo service over pod C at all three.
fn echo(net: &Net, protocol: Protocol, ranges: &[IpNet]) -> Service {
    let service = service("echo", protocol, net.vip(OWN), &[(net.pod_c, 80)]);
    let at = |n| vec![Frontend { vip: net.vip(n), ..service.frontends[0] }];
    Service { shared: at(SHARED), load_balancers: at(BALANCED), source_ranges: ranges.to_vec(), ..service }
}

fn only(address: IpAddr) -> IpNet {
    address.into()
}

/// What pod A, pod B and the host send to address `n`.
fn asked(net: &Net, n: u8, transport: Transport) -> [(Place, Frame); 3] {
    [
        (Place::PortA, from(&packet(net.pod_a, net.vip(n), transport))),
        (Place::PortB, from(&packet(net.pod_b, net.vip(n), transport))),
        (Place::HostPort, from_host(&packet(net.gateway, net.vip(n), transport))),
    ]
}

/// Which of the three are let in at address `n`; whoever is not is dropped in silence.
fn let_in(world: &mut World, net: &Net, n: u8, transport: Transport) -> [bool; 3] {
    asked(net, n, transport).map(|(place, frame)| match world.run(place, &frame.encode()) {
        Outcome::Sent(..) => true,
        Outcome::Dropped(Drop::SourceRange) => false,
        other => panic!("{other:?}"),
    })
}

fn load_balancers_alone(net: &Net) {
    let mut world = World::new(&name(net, "ranges_alone"));
    let cidr = IpNet::new(net.pod_a, if net.pod_a.is_ipv4() { 24 } else { 64 }).unwrap().trunc();
    let all = if net.pod_a.is_ipv4() { "0.0.0.0/0" } else { "::/0" }.parse().unwrap();
    for (ranges, inside) in [
        (vec![], [true; 3]),
        (vec![only(net.pod_a)], [true, false, false]),
        (vec![only(net.pod_b), only(net.gateway)], [false, true, true]),
        (vec![only(net.pod_c)], [false; 3]),
        (vec![cidr], [true; 3]),
        (vec![all, only(net.pod_c)], [true; 3]),
    ] {
        for (protocol, transports) in
            [(Protocol::Tcp, vec![syn(9, 8000), tcp(9, 8000)]), (Protocol::Udp, vec![udp(9, 8000)])]
        {
            world.set_services(&[echo(net, protocol, &ranges)]);
            for transport in transports {
                world.forget_flows();
                for (n, expected) in [(OWN, [true; 3]), (SHARED, [true; 3]), (BALANCED, inside)] {
                    assert_eq!(let_in(&mut world, net, n, transport), expected, "{n} {ranges:?}");
                }
            }
        }
    }
}

fn before_backends(net: &Net) {
    let mut world = World::new(&name(net, "ranges_before"));
    let service = echo(net, Protocol::Tcp, &[only(net.pod_a)]);
    world.set_services(&[Service { backends: vec![], ..service }]);
    let [(a, inside), (b, outside), _] = asked(net, BALANCED, syn(9, 8000));
    assert_eq!(told(&mut world, a, &inside), (Drop::NoBackend, Answer::refusal(&inside)));
    assert_eq!(dropped(&mut world, b, &outside), Drop::SourceRange);
}

/// As with conntrack: whoever has something under way is not asked again.
fn what_begins(net: &Net) {
    let mut world = World::new(&name(net, "ranges_begin"));
    let change = |world: &mut World, ranges: &[IpNet]| {
        let dns = Service { name: "dns".into(), ..echo(net, Protocol::Udp, ranges) };
        world.set_services(&[echo(net, Protocol::Tcp, ranges), dns]);
    };
    change(&mut world, &[]);
    for transport in [syn(9, 8000), tcp(9, 8000), udp(9, 8000)] {
        assert_eq!(let_in(&mut world, net, BALANCED, transport), [true; 3]);
    }
    change(&mut world, &[only(net.pod_a)]);
    for transport in [tcp(9, 8000), udp(9, 8000)] {
        assert_eq!(let_in(&mut world, net, BALANCED, transport), [true; 3], "it is under way");
    }
    for transport in [syn(9, 8000), syn(10, 8000), udp(10, 8000)] {
        assert_eq!(let_in(&mut world, net, BALANCED, transport), [true, false, false], "it begins");
    }
    change(&mut world, &[only(net.pod_a), only(net.pod_b)]);
    for transport in [syn(10, 8000), tcp(10, 8000), udp(10, 8000)] {
        assert_eq!(let_in(&mut world, net, BALANCED, transport), [true, true, false]);
    }
}

fn each_services_own(net: &Net) {
    let mut world = World::new(&name(net, "ranges_own"));
    let other = |ranges: &[IpNet]| {
        let at = vec![Frontend { vip: net.vip(5), ..echo(net, Protocol::Tcp, ranges).frontends[0] }];
        let name = "other".into();
        Service {
            name,
            frontends: vec![],
            shared: vec![],
            load_balancers: at,
            ..echo(net, Protocol::Tcp, ranges)
        }
    };
    let both = [echo(net, Protocol::Tcp, &[only(net.pod_a)]), other(&[only(net.pod_b)])];
    world.set_services(&both);
    assert_eq!(let_in(&mut world, net, BALANCED, syn(9, 8000)), [true, false, false]);
    assert_eq!(let_in(&mut world, net, 5, syn(9, 8000)), [false, true, false]);
    // Another agent finds nothing to do, and what goes takes its ranges along.
    world.restart();
    assert!(world.set_services(&both).is_empty());
    let views = world.view().services().unwrap();
    assert_eq!(views[0].source_ranges, [only(net.pod_a)]);
    assert_eq!(views[0].restricted, both[0].load_balancers);
    world.set_services(&[other(&[])]);
    assert_eq!(let_in(&mut world, net, 5, syn(10, 8000)), [true; 3]);
    let views = world.view().services().unwrap();
    assert!(views.iter().all(|view| view.source_ranges.is_empty() && view.restricted.is_empty()));
}

fn other_family(net: &Net) {
    let mut world = World::new(&name(net, "ranges_family"));
    let other = NETS.into_iter().find(|other| other.name != net.name).unwrap();
    world.set_services(&[echo(net, Protocol::Tcp, &[only(other.pod_a)])]);
    assert_eq!(let_in(&mut world, net, BALANCED, syn(9, 8000)), [true; 3]);
}
