//! Stories of flows that nobody sends anything on: how long each kind is remembered. Time passes as the tests say: they set
//! back when flows were seen last.

use std::{net::IpAddr, time::Duration};

use lb_dataplane::{
    Hop,
    desired::{Protocol, Service},
};

use crate::{
    build::{from, name, packet, sent, syn, tcp, udp},
    frame::{Body, Transport},
    net::Net,
    services::backend_of,
    table::Story,
    world::{Place, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("a6_datagrams_are_remembered_for_240_seconds", datagrams),
    ("a6_datagrams_are_remembered_for_as_long_as_their_service_says", a_services_own),
    ("a6_a_reply_half_is_forgotten_as_its_request_is", replies),
    ("a6_a_connection_is_remembered_by_how_far_it_has_come", connections),
    ("a6_a_syn_never_takes_up_what_is_over", over),
];

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The service over pod B, which has the flows, and perhaps pod C.
fn over_b(net: &Net, protocol: Protocol, with_c: bool) -> Service {
    let backends = [(net.pod_b, 80), (net.pod_c, 80)];
    service("echo", protocol, net.vip(0), &backends[..if with_c { 2 } else { 1 }])
}

/// A client port from which new flows of the service go to pod C once it is there.
fn port_to_c(world: &mut World, net: &Net, protocol: Protocol, transport: Make) -> u16 {
    world.set_services(&[over_b(net, protocol, true)]);
    let port = (1_000..1_100).find(|&port| backend_of(world, net, transport(port, 8000)) == net.pod_c);
    world.forget_flows();
    port.unwrap()
}

/// What is sent before the flow is left alone, whether it comes from the client or, answering it, from the backend.
#[derive(Clone, Copy)]
enum From {
    Client(Make),
    Backend(Make),
}

/// A transport header with these ports.
type Make = fn(u16, u16) -> Transport;

/// Makes all flows as old as if nobody had sent anything for `time`. False if the kernel has not run for so long, and so cannot
/// be made to think it.
fn age_flows(world: &World, time: Duration) -> bool {
    age::<16, 88>(world, "FLOWS4", time) && age::<40, 112>(world, "FLOWS6", time)
}

fn age<const KEY: usize, const VALUE: usize>(world: &World, table: &str, time: Duration) -> bool {
    let mut flows = world.table::<KEY, VALUE>(table);
    let time = u64::try_from(time.as_nanos()).unwrap();
    let all: Vec<_> = flows.iter().collect::<Result<_, _>>().unwrap();
    all.into_iter().all(|(key, mut flow)| {
        // `Flow::last_seen`.
        let seen = u64::from_ne_bytes(flow[8..16].try_into().unwrap()).checked_sub(time);
        seen.is_some_and(|seen| {
            flow[8..16].copy_from_slice(&seen.to_ne_bytes());
            flows.insert(key, flow, 0).is_ok()
        })
    })
}

const fn fin(src: u16, dst: u16) -> Transport {
    Transport::Tcp { src, dst, syn: false, ack: true, fin: true }
}

/// Who gets `then` after `before` was sent while only pod B was there, and nothing for `idle`. `None` if the kernel is
/// too young for it.
fn after(
    world: &mut World,
    net: &Net,
    service: impl Fn(bool) -> Service,
    port: u16,
    (before, idle, then): (&[From], Duration, Make),
) -> Option<IpAddr> {
    world.forget_flows();
    world.set_services(&[service(false)]);
    for from_whom in before {
        match from_whom {
            From::Client(transport) => {
                assert_eq!(backend_of(world, net, transport(port, 8000)), net.pod_b);
            }
            From::Backend(transport) => {
                assert_eq!(source_of_reply(world, net, transport(80, port)), net.vip(0));
            }
        }
    }
    world.set_services(&[service(true)]);
    age_flows(world, idle).then(|| backend_of(world, net, then(port, 8000)))
}

/// Where pod A sees a packet of pod B's come from.
fn source_of_reply(world: &mut World, net: &Net, transport: Transport) -> IpAddr {
    let reply = from(&packet(net.pod_b, net.pod_a, transport));
    match sent(world, Place::PortB, &reply) {
        (Hop::PortToPort, frame) => match frame.body {
            Body::Ip(packet) => packet.src,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn datagrams(net: &Net) {
    remembered_for(net, "datagrams", Protocol::Udp, udp, &[(&[From::Client(udp)], 240, udp)], |service| {
        service
    });
}

fn a_services_own(net: &Net) {
    for ttl in [1, 7, 100] {
        let kind: [Kind; 1] = [(&[From::Client(udp)], ttl, udp)];
        remembered_for(net, &format!("own_{ttl}"), Protocol::Udp, udp, &kind, |service| Service {
            flow_ttl: seconds(ttl),
            ..service
        });
    }
}

/// What is sent, for how many seconds it is remembered then, and what comes after.
type Kind = (&'static [From], u64, Make);

/// Each of `kinds` is remembered for its time, and no longer.
fn remembered_for(
    net: &Net,
    story: &str,
    protocol: Protocol,
    opening: Make,
    kinds: &[Kind],
    change: impl Fn(Service) -> Service,
) {
    let mut world = World::new(&name(net, story));
    let port = port_to_c(&mut world, net, protocol, opening);
    let service = |with_c| change(over_b(net, protocol, with_c));
    for (n, &(before, time, then)) in kinds.iter().enumerate() {
        let late = Duration::from_millis(time * 1_000 + 500);
        let late = after(&mut world, net, service, port, (before, late, then));
        // A busy machine takes its time, too.
        let in_time = Duration::from_millis((time * 1_000).saturating_sub(900));
        let in_time = after(&mut world, net, service, port, (before, in_time, then));
        if late.is_none() {
            eprintln!("{story}: left out, since this kernel has not run for {time} s yet: kind {n}");
            continue;
        }
        assert_eq!(in_time, Some(net.pod_b), "{story}, kind {n}: forgotten too soon");
        assert_eq!(late, Some(net.pod_c), "{story}, kind {n}: remembered for too long");
    }
}

/// Times as RFC 9293, Linux and kube-proxy have them: see `TcpState::ttl_ms`.
fn connections(net: &Net) {
    const OPENING: &[From] = &[From::Client(syn)];
    const ESTABLISHED: &[From] = &[From::Client(syn), From::Client(tcp)];
    const HALF_CLOSED: &[From] = &[From::Client(syn), From::Client(tcp), From::Client(fin)];
    const CLOSED: &[From] = &[From::Client(syn), From::Client(tcp), From::Client(fin), From::Backend(fin)];
    let kinds: [Kind; 4] =
        [(OPENING, 70, syn), (ESTABLISHED, 86_400, tcp), (HALF_CLOSED, 3_600, tcp), (CLOSED, 10, tcp)];
    remembered_for(net, "connections", Protocol::Tcp, syn, &kinds, |service| service);
    // An established one outlives by far what others are given, on any machine.
    let mut world = World::new(&name(net, "established"));
    let port = port_to_c(&mut world, net, Protocol::Tcp, syn);
    let service = |with_c| over_b(net, Protocol::Tcp, with_c);
    let kept = after(&mut world, net, service, port, (ESTABLISHED, seconds(300), tcp));
    assert!(kept.is_none_or(|backend| backend == net.pod_b));
}

fn replies(net: &Net) {
    let mut world = World::new(&name(net, "old_replies"));
    world.set_services(&[over_b(net, Protocol::Udp, false)]);
    for (idle, source) in [(239, net.vip(0)), (241, net.pod_b)] {
        world.forget_flows();
        assert_eq!(backend_of(&mut world, net, udp(9, 8000)), net.pod_b);
        if age_flows(&world, seconds(idle)) {
            assert_eq!(source_of_reply(&mut world, net, udp(80, 9)), source, "{idle} s");
        } else {
            eprintln!("left out, since this kernel has not run for {idle} s yet");
        }
    }
}

fn over(net: &Net) {
    let mut world = World::new(&name(net, "over"));
    let port = port_to_c(&mut world, net, Protocol::Tcp, syn);
    let service = |with_c| over_b(net, Protocol::Tcp, with_c);
    let established: &[From] = &[From::Client(syn), From::Client(tcp)];
    let half_closed: &[From] = &[From::Client(syn), From::Client(tcp), From::Client(fin)];
    let closed: &[From] =
        &[From::Client(syn), From::Client(tcp), From::Client(fin), From::Backend(fin), From::Client(tcp)];
    for before in [established, half_closed, closed] {
        for idle in [0, 1, 9, 11, 71] {
            let found = after(&mut world, net, service, port, (before, seconds(idle), syn));
            assert_eq!(found, Some(net.pod_c), "idle for {idle} s: it took up the old one");
            // And what answers is the new one's.
            assert_eq!(backend_of(&mut world, net, tcp(port, 8000)), net.pod_c);
        }
    }
    // The same SYN again is the same connection's, for as long as it is sent again.
    let again = after(&mut world, net, service, port, (&[From::Client(syn)], seconds(3), syn));
    assert_eq!(again, Some(net.pod_b));
}
