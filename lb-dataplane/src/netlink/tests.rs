//! The requests against a real kernel, in namespaces that each test makes for itself.

use std::{
    net::IpAddr,
    num::NonZeroU16,
    path::PathBuf,
    time::{Duration, Instant},
};

use beeline_abi::Mac;
use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};

use super::{Netlink, Route, Veth, VethEnd, Vxlan};
use crate::netns::NetNs;

const NEAR: Mac = Mac::GATEWAY;
const FAR: Mac = Mac([0x0a, 0x58, 10, 244, 1, 2]);

/// A namespace that goes when this does.
fn new_netns() -> NetNs {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        NetNs::open(PathBuf::from("/proc/thread-self/ns/net")).unwrap()
    })
    .join()
    .unwrap()
}

fn end(name: &str, mac: Mac) -> VethEnd<'_> {
    VethEnd { name, mac, mtu: 1450 }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_pair_is_born_whole_and_without_ipv6_noise() {
    let pod = new_netns();
    let host = Netlink::open_in(&new_netns()).unwrap();
    let inside = Netlink::open_in(&pod).unwrap();
    let veth = Veth { near: end("blport", NEAR), far: end("eth0", FAR), far_netns: Some(&pod) };
    let near = host.create_veth(&veth).await.unwrap();
    assert_eq!((near.mac, near.mtu, near.up), (Some(NEAR), 1450, false));
    assert!(near.peer_elsewhere);
    let far = inside.require_link("eth0").await.unwrap();
    assert_eq!((far.mac, far.mtu, far.up), (Some(FAR), 1450, false));
    assert_eq!(near.peer, Some(far.index));

    for (netlink, index) in [(&host, near.index), (&inside, far.index)] {
        netlink.set_addr_gen_none(index).await.unwrap();
        netlink.set_up(index).await.unwrap();
    }
    host.set_alias(near.index, "a pod").await.unwrap();
    let near = host.require_link("blport").await.unwrap();
    assert!(near.up && near.kind.as_deref() == Some("veth") && near.alias.as_deref() == Some("a pod"));
    assert_eq!(host.addresses(near.index).await.unwrap(), [], "no link-local address");
    assert_eq!(inside.addresses(far.index).await.unwrap(), [], "no link-local address");

    let again = host.create_veth(&veth).await.unwrap_err();
    assert!(again.is_exists(), "{again}");
    let taken = Veth { near: end("other", NEAR), ..veth };
    assert!(host.create_veth(&taken).await.unwrap_err().is_exists());
    assert_eq!(host.link("other").await.unwrap(), None, "nothing is half made");

    host.delete_link_named("blport").await.unwrap();
    host.delete_link_named("blport").await.unwrap();
    host.delete_link(near.index).await.unwrap();
    assert_eq!(inside.link("eth0").await.unwrap(), None);
}

/// Addresses of one family that the requests are tried with.
struct Plan {
    own: &'static str,
    gateway: &'static str,
    prefix: &'static str,
    inside: &'static str,
    nowhere: &'static str,
}

#[tokio::test]
async fn routes_addresses_and_neighbours_are_set_found_and_deleted() {
    try_routes_addresses_and_neighbours(&Plan {
        own: "10.244.1.1/32",
        gateway: "169.254.1.1",
        prefix: "10.244.0.0/16",
        inside: "10.244.7.7",
        nowhere: "192.0.2.1",
    })
    .await;
}

#[tokio::test]
async fn ipv6_routes_addresses_and_neighbours_are_set_found_and_deleted() {
    try_routes_addresses_and_neighbours(&Plan {
        own: "fd00:10:244:1::1/128",
        gateway: "fe80::1",
        prefix: "fd00:10:244::/48",
        inside: "fd00:10:244:7::7",
        nowhere: "2001:db8::1",
    })
    .await;
}

async fn try_routes_addresses_and_neighbours(plan: &Plan) {
    let netns = new_netns();
    let netlink = Netlink::open_in(&netns).unwrap();
    let veth = Veth { near: end("beeline0", FAR), far: end("beeline0-port", NEAR), far_netns: None };
    let near = netlink.create_veth(&veth).await.unwrap().index;
    let far = netlink.require_link("beeline0-port").await.unwrap().index;
    netlink.set_up(near).await.unwrap();
    netlink.set_up(far).await.unwrap();

    let own: IpNet = plan.own.parse().unwrap();
    netlink.add_address(near, own).await.unwrap();
    netlink.add_address(near, own).await.unwrap();
    if own.addr().is_ipv6() {
        // While an address is tentative, nothing can be bound to it.
        netns.run(|| std::net::UdpSocket::bind((own.addr(), 0))).unwrap().unwrap();
    }
    assert!(netlink.addresses(near).await.unwrap().contains(&own));
    assert_eq!(netlink.link_with_address(own.addr()).await.unwrap().unwrap().index, near);
    assert_eq!(netlink.link_with_address(ip(plan.nowhere)).await.unwrap(), None);

    let gateway = ip(plan.gateway);
    netlink.set_neighbour(near, gateway, FAR).await.unwrap();
    netlink.set_neighbour(near, gateway, NEAR).await.unwrap();
    let known = netlink.neighbours(near).await.unwrap();
    assert!(known.iter().any(|n| n.address == gateway && n.mac == Some(NEAR) && n.permanent));

    let route = Route {
        to: plan.prefix.parse().unwrap(),
        via: Some(gateway),
        oif: near,
        onlink: true,
        src: Some(own.addr()),
        protocol: 190,
    };
    netlink.replace_route(&route).await.unwrap();
    netlink.replace_route(&route).await.unwrap();
    assert_eq!(netlink.routes(Some(190)).await.unwrap(), std::slice::from_ref(&route));
    let by_another_way = Route { oif: far, src: None, ..route.clone() };
    netlink.add_route(&by_another_way).await.unwrap();
    assert_eq!(netlink.routes(Some(190)).await.unwrap(), std::slice::from_ref(&route), "what is there stays");
    assert_eq!(netlink.routes(Some(191)).await.unwrap(), []);
    let way = netlink.route_to(ip(plan.inside)).await.unwrap().unwrap();
    assert_eq!((way.oif, way.via, way.src), (near, Some(gateway), Some(own.addr())));
    // The kernel enters an IPv6 address into its local table a moment after it has told of it.
    let start = Instant::now();
    while !netlink.route_to(own.addr()).await.unwrap().is_some_and(|way| way.local) {
        assert!(start.elapsed() < Duration::from_secs(10), "{own} is not local");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(netlink.route_to(ip(plan.nowhere)).await.unwrap(), None);
    netlink.delete_route(&route).await.unwrap();
    netlink.delete_route(&route).await.unwrap();

    let unreachable = Route { via: Some(ip(plan.nowhere)), onlink: false, ..route };
    let error = netlink.replace_route(&unreachable).await.unwrap_err().to_string();
    assert!(error.contains(plan.prefix), "{error}");

    netlink.delete_address(near, own).await.unwrap();
    netlink.delete_address(near, own).await.unwrap();
}

#[tokio::test]
async fn what_is_sent_from_an_address_can_have_a_table_of_its_own() {
    let netlink = Netlink::open_in(&new_netns()).unwrap();
    let pair = |near, far| Veth { near: end(near, FAR), far: end(far, NEAR), far_netns: None };
    let first = netlink.create_veth(&pair("eth0", "port0")).await.unwrap().index;
    let second = netlink.create_veth(&pair("eth1", "port1")).await.unwrap().index;
    for (from, gateway, to) in [("10.244.1.3", "169.254.1.1", "0.0.0.0/0"), ("fd00::3", "fe80::1", "::/0")] {
        let source = IpNet::from(ip(from));
        let route = |oif| Route {
            to: to.parse().unwrap(),
            via: Some(ip(gateway)),
            oif,
            onlink: true,
            src: None,
            protocol: 4,
        };
        for index in [first, second] {
            netlink.set_up(index).await.unwrap();
        }
        netlink.add_address(second, source).await.unwrap();
        assert!(netlink.add_route(&route(first)).await.unwrap());
        assert!(!netlink.add_route(&route(second)).await.unwrap(), "{to} was taken from the first");
        for _ in 0..2 {
            netlink.add_route_to_table(&route(second), 1007).await.unwrap();
            netlink.add_rule_from(source, 1007).await.unwrap();
        }
        assert!(netlink.routes_of_table(1007).await.unwrap().contains(&route(second)));
        assert!(!netlink.routes(None).await.unwrap().contains(&route(second)));
        assert!(netlink.sources_of_table(1007).await.unwrap().contains(&source));
        netlink.delete_rules_from(source).await.unwrap();
        assert!(!netlink.sources_of_table(1007).await.unwrap().contains(&source));
        netlink.delete_rules_from(source).await.unwrap();
    }
}

#[tokio::test]
async fn the_vxlan_device_is_made_once() {
    let netns = new_netns();
    let netlink = Netlink::open_in(&netns).unwrap();
    let vxlan = Vxlan { name: "beeline-vxlan", port: NonZeroU16::new(4789).unwrap(), mtu: 1450, mac: NEAR };
    let made = netlink.ensure_vxlan(&vxlan).await.unwrap();
    assert_eq!((made.kind.as_deref(), made.mtu, made.mac), (Some("vxlan"), 1450, Some(NEAR)));
    assert_eq!(netlink.ensure_vxlan(&vxlan).await.unwrap().index, made.index);
    netlink.set_up(made.index).await.unwrap();
    netlink.set_mtu(made.index, 1400).await.unwrap();
    assert_eq!(netlink.link_by_index(made.index).await.unwrap().unwrap().mtu, 1400);
    assert_eq!(netlink.link_by_index(9999).await.unwrap(), None);
}
