//! Random sequences of packets and changes: the programs and the model must agree after every step, and no
//! bytes whatsoever may upset the programs.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr},
};

use lb_dataplane::{
    Drop, Hop, Mac,
    desired::{Affinity, DEFAULT_AFFINITY_TIMEOUT, Protocol, Service},
};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

use crate::{
    answers::Answer,
    fragment::{cut, without_checksum},
    frame::{Body, Frame, Packet, Transport},
    model::{Expected, Model},
    net::{IPV4, IPV6, NETS, Net, host_mac, mac, net_of},
    world::{NODE, Outcome, PEER, PLAIN, Place, VNI, World, service, shortest},
};

/// Every test of this file.
pub const TESTS: &[(&str, fn())] = &[
    ("random_sequences_agree_with_the_model", agree_with_model),
    ("random_bytes_are_refused_or_left_alone", survive_bytes),
];

/// Virtual addresses, by what is behind them.
const TCP: u8 = 0;
const UDP: u8 = 1;
const OFF: u8 = 2;
const EMPTY: u8 = 3;
const SCTP: u8 = 4;

/// Ports that backends listen on, one a service: two services never share a backend here.
const PORT_TCP: u16 = 80;
const PORT_UDP: u16 = 53;
const PORT_SCTP: u16 = 380;
/// Ports that are no backend's.
const DIRECT: [u16; 3] = [9000, 9001, 4789];
const CLIENT: [u16; 4] = [40_000, 40_001, 40_002, 40_003];

/// One step of a sequence.
#[derive(Clone, Debug)]
enum Step {
    Packet(Place, Frame),
    /// Fragments of one packet, in any order.
    Fragments(Place, Vec<Frame>),
    Services(Vec<Service>),
    Endpoint(IpAddr, bool),
}

fn agree_with_model() {
    let world = RefCell::new(World::new("model"));
    let mut runner = TestRunner::new(Config { cases: 1_000, failure_persistence: None, ..Config::default() });
    let sequence = prop::collection::vec(step(), 1..200);
    let result = runner.run(&sequence, |sequence| {
        let mut world = world.borrow_mut();
        world.forget_flows();
        world.set_services(&[]);
        let (port_a, port_b) = (world.devices.port_a, world.devices.port_b);
        for net in NETS {
            world.set_endpoint(net.pod_a, Some(port_a));
            world.set_endpoint(net.pod_b, Some(port_b));
        }
        let mut model = Model::new();
        for step in sequence {
            match step {
                Step::Services(services) => {
                    world.set_services(&services);
                    model.set_services(services);
                }
                Step::Endpoint(pod, present) => {
                    let (place, port) = if pod == net_of(pod).pod_a {
                        (Place::PortA, port_a)
                    } else {
                        (Place::PortB, port_b)
                    };
                    world.set_endpoint(pod, present.then_some(port));
                    if present {
                        model.endpoints.insert(pod, place);
                    } else {
                        model.endpoints.remove(&pod);
                    }
                }
                Step::Packet(place, frame) => {
                    let expected = model.step(place, &frame);
                    let outcome = world.run(place, &frame.encode());
                    compare(place, &frame, &expected, &outcome)?;
                }
                Step::Fragments(place, frames) => {
                    for frame in frames {
                        let expected = model.step(place, &frame);
                        let outcome = world.run(place, &frame.encode());
                        compare(place, &frame, &expected, &outcome)?;
                    }
                }
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

fn compare(place: Place, frame: &Frame, expected: &Expected, outcome: &Outcome) -> Result<(), TestCaseError> {
    let same = match (expected, outcome) {
        (Expected::Next, Outcome::Next) => true,
        (Expected::Dropped(expected), Outcome::Dropped(reason)) => expected == reason,
        (Expected::Told(expected), Outcome::Answered(reason, bytes)) => {
            let answer = Answer::decode(bytes).map_err(TestCaseError::fail)?;
            prop_assert_eq!(Answer::to(frame, *reason), answer, "{:?} sent {:?}", place, frame);
            expected == reason
        }
        (Expected::Sent(expected_hop, expected), Outcome::Sent(hop, bytes)) => {
            let mut sent = Frame::decode(bytes).map_err(TestCaseError::fail)?;
            if *hop == Hop::PortToOverlay {
                (sent.dst_mac, sent.src_mac) = ([0; 6], [0; 6]);
            }
            without_checksum(&mut sent);
            prop_assert_eq!(expected, &sent, "{:?} sent {:?}", place, frame);
            expected_hop == hop
        }
        _ => false,
    };
    prop_assert!(same, "{place:?} sent {frame:?}: expected {expected:?}, got {outcome:?}");
    Ok(())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => net().prop_flat_map(leaving),
        20 => net().prop_flat_map(arriving),
        8 => net().prop_flat_map(leaving).prop_flat_map(in_fragments),
        5 => net().prop_flat_map(arriving).prop_flat_map(in_fragments),
        1 => (services(&IPV4), services(&IPV6)).prop_map(|(v4, v6)| Step::Services([v4, v6].concat())),
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
    let mut destinations: Vec<_> = [TCP, TCP, UDP, UDP, SCTP, OFF, EMPTY].map(|n| net.vip(n)).into();
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
            // The host forwards requests for others, and pods do not. It does not answer in a pod's name from a backend's
            // port: that would take the reply half of a live flow, which the programs put back within a second and
            // the model, which knows no time, at once.
            let forged = forged.filter(|_| place != Place::HostPort || transport.ports().0 >= 1024);
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
        (Just(PORT_TCP), client()),
        (Just(PORT_UDP), client()),
        (Just(PORT_SCTP), client()),
        (select(DIRECT[..2].to_vec()), client()),
    ];
    (ports, flags, 0..10).prop_map(|((src, dst), (syn, ack, fin), kind)| match kind {
        0 => Transport::Ping { id: src },
        1..=3 => Transport::Udp { src, dst, checksum: kind != 1 },
        8 | 9 => Transport::Sctp { src, dst, checksum: kind == 8 },
        // A backend's port answers; it never opens a connection to a client's port.
        _ if src < 1024 => Transport::Tcp { src, dst, syn, ack: true, fin },
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

fn services(net: &'static Net) -> impl Strategy<Value = Vec<Service>> {
    let pods = [net.pod_a, net.pod_b, net.pod_c, net.pod_d];
    let name = move |name: &str| format!("{name}/{}", net.name);
    let backends = move |port: u16| {
        prop::sample::subsequence(pods.to_vec(), 0..=4)
            .prop_map(move |pods| pods.into_iter().map(|pod| (pod, port)).collect::<Vec<_>>())
    };
    (backends(PORT_TCP), backends(PORT_UDP), backends(PORT_SCTP), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(move |(tcp, udp, sctp, tcp_dsr, affinity, has_off)| {
            let mut services = vec![
                Service { dsr: tcp_dsr, ..service(&name("tcp"), Protocol::Tcp, net.vip(TCP), &tcp) },
                Service {
                    affinity: if affinity {
                        Affinity::ClientIp { timeout: DEFAULT_AFFINITY_TIMEOUT }
                    } else {
                        Affinity::None
                    },
                    ..service(&name("udp"), Protocol::Udp, net.vip(UDP), &udp)
                },
                service(&name("sctp"), Protocol::Sctp, net.vip(SCTP), &sctp),
                service(&name("empty"), Protocol::Tcp, net.vip(EMPTY), &[]),
            ];
            if has_off {
                services.push(Service {
                    dsr: false,
                    ..service(&name("off"), Protocol::Tcp, net.vip(OFF), &[(net.pod_b, 81)])
                });
            }
            services
        })
}

/// Whatever bytes come: no panic in the kernel, one counter a packet, and nothing from a port that is not its own
/// ever goes on.
fn survive_bytes() {
    let world = RefCell::new(World::new("bytes"));
    let mut runner =
        TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
    let frames = NETS.map(|net| {
        let whole = Frame {
            dst_mac: Mac::GATEWAY.0,
            src_mac: mac(net.pod_a).0,
            body: Body::Ip(Packet {
                src: net.pod_a,
                dst: net.pod_c,
                ttl: 64,
                options: vec![],
                transport: Transport::Udp { src: 1, dst: 2, checksum: true },
                payload: vec![0; 32],
            }),
        };
        let inner = Box::new(whole.clone());
        let body = Body::Vxlan { src: PEER, dst: NODE, vni: VNI, inner };
        let wire = Frame { body, ..whole.clone() };
        {
            let pieces = cut(&whole, 7, 3);
            [whole.encode(), pieces[0].encode(), pieces[1].encode(), wire.encode()]
        }
    });
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 34..200),
        select(frames.concat()).prop_flat_map(mutated)
    ];
    let place = select(vec![Place::PortA, Place::HostPort, Place::Uplink]);
    let bytes = bytes.prop_filter("the kernel takes no less", |bytes| bytes.len() >= shortest(bytes));
    let result = runner.run(&(place, bytes), |(place, bytes)| {
        let outcome = world.borrow_mut().run(place, &bytes);
        if place == Place::PortA {
            prop_assert_ne!(&outcome, &Outcome::Next, "a port's packet is never left to others");
            if let Outcome::Sent(..) = outcome {
                let net = if bytes[12..14] == [0x08, 0x00] { &IPV4 } else { &IPV6 };
                prop_assert_eq!(&bytes[6..12], &mac(net.pod_a).0, "only its own MAC");
                match net.pod_a {
                    IpAddr::V4(own) => prop_assert_eq!(&bytes[26..30], &own.octets(), "only its own address"),
                    IpAddr::V6(own) => prop_assert_eq!(&bytes[22..38], &own.octets(), "only its own address"),
                }
            }
        }
        if place == Place::HostPort {
            prop_assert_ne!(outcome, Outcome::Dropped(Drop::ForgedSource));
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// `bytes` with up to four of them changed, and cut anywhere.
fn mutated(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len();
    let changes = prop::collection::vec((0..length, any::<u8>()), 0..=4);
    (changes, 34..=length).prop_map(move |(changes, cut)| {
        let mut bytes = bytes.clone();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(cut);
        bytes
    })
}
