//! A plain Linux vxlan device as a peer: it understands what Beeline sends, and Beeline what it sends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use integration::{
    Cluster, Family, Netns, Node, Pod, Service, Stack, frames::mac_text, load::Connections, ping::Ping,
};

use crate::scene::{Scene, ensure_perfect, ensure_silent};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 9);
const MAC: &str = "02:00:00:00:00:09";

/// A cluster that knows of a plain VTEP, the VTEP itself, which knows the way to these pods, and its inner address.
fn scene(stack: Stack) -> Result<(Scene, Netns, IpAddr)> {
    let (inner, own, pods) = match stack.families()[0] {
        Family::V4 => ("10.244.9.1", "10.244.9.0/24", "10.244.0.0/16"),
        Family::V6 => ("fd00:10:244:9::1", "fd00:10:244:9::/64", "fd00:10:244::/48"),
    };
    let builder = Cluster::builder().stack(stack).plain_vtep("tor1", ADDRESS, &[own], MAC);
    let scene = Scene::with_servers_on(builder, &[2])?;
    let vtep = scene.cluster.outsider("tor1", ADDRESS)?;
    vtep.ip(&format!(
        "link add vx0 address {MAC} mtu 1450 type vxlan id 7 dstport 4789 local {ADDRESS} nolearning\n\
         link set vx0 up\naddr add {inner} dev vx0 nodad\nroute add {pods} dev vx0 src {inner}"
    ))?;
    for pod in [&scene.client, scene.server()] {
        teach(&vtep, pod)?;
    }
    Ok((scene, vtep, inner.parse()?))
}

/// Tells a plain VTEP where a pod is: its MAC, and the VTEP behind which that is.
fn teach(vtep: &Netns, pod: &Pod) -> Result<()> {
    teach_address(vtep, pod.address(), pod.mac(), pod.node())
}

fn teach_address(vtep: &Netns, address: IpAddr, mac: [u8; 6], node: &Node) -> Result<()> {
    let mac = mac_text(mac);
    vtep.ip(&format!("neigh add {address} lladdr {mac} dev vx0 nud permanent"))?;
    vtep.exec(&format!("bridge fdb add {mac} dev vx0 dst {} self permanent", node.address()))?;
    Ok(())
}

pub(crate) fn plain_vtep_exchanges_pings_with_pods() -> Result<()> {
    exchanges_pings(Stack::V4)
}

pub(crate) fn exchanges_pings(stack: Stack) -> Result<()> {
    let (scene, vtep, inner) = scene(stack)?;
    for pod in [&scene.client, scene.server()] {
        for payload in [0, 56, 1450 - scene.ping_headers()] {
            ensure!(
                vtep.ping(pod.address(), payload)? == Ping::Answered,
                "VTEP to {}, {payload}",
                pod.name()
            );
            ensure!(pod.ping(inner, payload)? == Ping::Answered, "{} to VTEP, {payload}", pod.name());
        }
    }
    Ok(())
}

pub(crate) fn plain_vtep_exchanges_tcp_with_pods() -> Result<()> {
    exchanges_tcp(Stack::V4)
}

pub(crate) fn exchanges_tcp(stack: Stack) -> Result<()> {
    let (scene, vtep, inner) = scene(stack)?;
    let _program = vtep.serve_as("tor1", 80, &scene.client.node().log_path("tor1"))?;
    let (seen, ()) = scene.watch_hosts(|| {
        let server = SocketAddr::new(scene.server().address(), 80);
        ensure_perfect(&vtep.load(server, 500, Connections::New)?, 500)?;
        ensure_perfect(&scene.client.load(SocketAddr::new(inner, 80), 500, Connections::New)?, 500)
    })?;
    ensure_silent(scene.cluster.nodes(), &seen)
}

pub(crate) fn plain_vtep_serves_behind_a_vip() -> Result<()> {
    serves_behind_a_vip(Stack::V4)
}

pub(crate) fn serves_behind_a_vip(stack: Stack) -> Result<()> {
    let (scene, vtep, inner) = scene(stack)?;
    let _program = vtep.serve_as("tor1", 80, &scene.client.node().log_path("tor1"))?;
    scene.cluster.set_services([Service::new("echo", scene.vip()).to(inner, 80)])?;
    let seen = scene.watch(1_000, Connections::New)?;
    ensure_silent(scene.cluster.nodes(), &seen)
}

/// It would answer the node's address in the underlay past the overlay, and must see the node's address in the overlay.
pub(crate) fn plain_vtep_serves_behind_a_node_port_of_the_node_that_asks() -> Result<()> {
    let (scene, vtep, inner) = scene(Stack::V4)?;
    let node = scene.client.node();
    let gateway = [10, 244, 1, 1];
    teach_address(&vtep, gateway.into(), [0x0a, 0x58, 10, 244, 1, 1], node)?;
    let _program = vtep.serve_as("tor1", 80, &node.log_path("tor1"))?;
    let service = Service::new("echo", scene.vip()).to(inner, 80);
    scene.cluster.set_services([service.with("nodePorts: [{ port: 30080 }]")])?;
    for at in [scene.vip(), SocketAddr::new(node.address().into(), 30_080)] {
        ensure!(node.get(at)?.0.server == "tor1", "another answered");
        let report = node.load(at, 200, Connections::New)?;
        ensure!(report.failures.is_empty(), "{at}: {:?}", report.failures.first());
        ensure!(report.servers.keys().eq(["tor1"]), "{at}: {:?}", report.servers);
    }
    Ok(())
}
