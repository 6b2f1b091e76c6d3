//! Services of all kinds, as they come and go.

use std::{net::IpAddr, num::NonZeroU16, time::Duration};

use ipnet::IpNet;
use lb_dataplane::desired::{Affinity, Backend, BackendState, Frontend, Protocol, Service, WithoutBackends};
use proptest::{prelude::*, sample::Index};

use crate::{net::Net, world::service};

/// Virtual addresses, by what is behind them.
pub const TCP: u8 = 0;
pub const UDP: u8 = 1;
pub const OFF: u8 = 2;
pub const EMPTY: u8 = 3;
pub const SCTP: u8 = 4;
/// The backends of TCP and UDP once more: a client's two requests may look alike to one.
pub const TWIN: u8 = 5;
/// Nodes, and what is outside.
pub const FAR: u8 = 6;
/// A load balancer's, which is for some clients only.
pub const BALANCED: u8 = 7;

/// Ports that backends listen on.
pub const PORT_TCP: u16 = 80;
pub const PORT_UDP: u16 = 53;
pub const PORT_SCTP: u16 = 380;

/// How long a client's backend is remembered.
const AFFINITY: Duration = Duration::from_mins(2);

/// Some of `addresses`, each as a backend, of which some are about to end.
fn backends(addresses: Vec<IpAddr>, port: u16) -> impl Strategy<Value = Vec<Backend>> {
    let port = NonZeroU16::new(port).unwrap();
    let number = addresses.len();
    let state = prop_oneof![3 => Just(BackendState::Ready), 1 => Just(BackendState::Draining)];
    let states = prop::collection::vec(state, number);
    (prop::sample::subsequence(addresses, 0..=number), states).prop_map(move |(addresses, states)| {
        let backend = |(address, state)| Backend { address, port, state };
        addresses.into_iter().zip(states).map(backend).collect()
    })
}

fn without_backends() -> impl Strategy<Value = WithoutBackends> {
    prop_oneof![Just(WithoutBackends::Reject), Just(WithoutBackends::Drop)]
}

/// A service of `protocol` at the virtual address `n`.
fn one(
    net: &'static Net,
    name: &'static str,
    protocol: Protocol,
    n: u8,
    backends: impl Strategy<Value = Vec<Backend>>,
) -> impl Strategy<Value = Service> {
    let affinity =
        prop_oneof![3 => Just(Affinity::None), 1 => Just(Affinity::ClientIp { timeout: AFFINITY })];
    let ttl = prop_oneof![1 => Just(60), 1 => Just(240)];
    (backends, without_backends(), affinity, ttl, prop::bool::weighted(0.85)).prop_map(
        move |(backends, without_backends, affinity, ttl, dsr)| Service {
            backends,
            without_backends,
            affinity,
            flow_ttl: Duration::from_secs(ttl),
            dsr,
            ..service(&format!("{name}/{}", net.name), protocol, net.vip(n), &[])
        },
    )
}

/// All or some of them.
pub fn services(net: &'static Net) -> impl Strategy<Value = Vec<Service>> {
    let pods = vec![net.pod_a, net.pod_b, net.pod_c, net.pod_d];
    let far: Vec<_> = [net.gateway, net.outside].into_iter().chain(net.underlay.iter().copied()).collect();
    let some = |name, protocol, n, port| one(net, name, protocol, n, backends(pods.clone(), port));
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let ranges = prop::sample::subsequence(vec![net.pod_a, net.gateway, net.pod_b], 0..=3);
    let balanced =
        (some("balanced", tcp, BALANCED, PORT_TCP), ranges).prop_map(|(service, ranges)| Service {
            load_balancers: service.frontends,
            frontends: vec![],
            source_ranges: ranges.into_iter().map(IpNet::from).collect(),
            ..service
        });
    (
        some("tcp", tcp, TCP, PORT_TCP),
        some("udp", udp, UDP, PORT_UDP),
        some("sctp", Protocol::Sctp, SCTP, PORT_SCTP),
        one(net, "empty", tcp, EMPTY, Just(vec![])),
        some("twin-tcp", tcp, TWIN, PORT_TCP),
        some("twin-udp", udp, TWIN, PORT_UDP),
        one(net, "far", tcp, FAR, backends(far, PORT_TCP)),
        some("node", tcp, TCP, PORT_TCP).prop_map(|service| at_node(net, service)),
        balanced,
        prop::option::of(some("off", tcp, OFF, PORT_TCP)),
    )
        .prop_map(|(tcp, udp, sctp, empty, twin_tcp, twin_udp, far, node, balanced, off)| {
            let off = off.map(|off| Service { dsr: false, ..off });
            [tcp, udp, sctp, empty, twin_tcp, twin_udp, far, node, balanced].into_iter().chain(off).collect()
        })
}

/// Lets one of the backends of `services` drain, or take new flows again.
pub fn turn(services: &mut [Service], which: Index) {
    let mut backends: Vec<_> = services.iter_mut().flat_map(|service| &mut service.backends).collect();
    if backends.is_empty() {
        return;
    }
    let which = which.index(backends.len());
    let backend = &mut *backends[which];
    backend.state = match backend.state {
        BackendState::Ready => BackendState::Draining,
        BackendState::Draining => BackendState::Ready,
    };
}

/// At addresses that are not its own: the node's.
fn at_node(net: &Net, service: Service) -> Service {
    let addresses = [net.gateway].into_iter().chain(net.underlay.first().copied());
    let [frontend] = service.frontends[..] else { panic!("{service:?}") };
    let shared = addresses.map(|vip| Frontend { vip, ..frontend }).collect();
    Service { frontends: vec![], shared, ..service }
}
