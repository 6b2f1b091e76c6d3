//! The outside: pods reach it under their node's address, and nobody outside needs a route to pods.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use integration::{
    Cluster, Family, Netns, Stack,
    cluster::{underlay_address, underlay_ipv6},
    load::Connections,
    ping::Ping,
    wait::until,
};

use crate::scene::Scene;

pub(crate) fn a_pod_reaches_the_outside_masqueraded() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let nodes = scene.cluster.nodes().iter().map(|node| node.address().into()).collect::<Vec<_>>();
    let (outside, address) = outsider(&scene.cluster, Family::V4)?;
    is_masqueraded(&scene, &nodes, &outside, address)
}

/// A machine outside, and its address of `family`, which every node reaches: of IPv6, if the nodes have that on the underlay.
pub(crate) fn outsider(cluster: &Cluster, family: Family) -> Result<(Netns, IpAddr)> {
    const HOST: u8 = 100;
    let outside = cluster.outsider("outside", underlay_address(HOST))?;
    if family == Family::V4 {
        return Ok((outside, underlay_address(HOST).into()));
    }
    let address = underlay_ipv6(HOST);
    outside.ip(&format!("addr add {address}/64 dev eth0 nodad"))?;
    for node in cluster.nodes() {
        until("IPv6 on the underlay", Duration::from_secs(10), || {
            Ok(node.ping(address, 0)? == Ping::Answered)
        })?;
    }
    Ok((outside, address))
}

/// What pods send to `outside`, which has `address`, comes from their own node's address among those of `nodes`.
pub(crate) fn is_masqueraded(
    scene: &Scene,
    nodes: &[IpAddr],
    outside: &Netns,
    address: IpAddr,
) -> Result<()> {
    let _program = outside.serve_as("outside", 80, &scene.client.node().log_path("outside"))?;
    let server = SocketAddr::new(address, 80);
    // The node's own packets keep their source; first, while no pod is masqueraded with the port that they have.
    let (answer, local) = scene.client.node().get(server)?;
    ensure!(answer.client == local, "{answer:?}");
    for (pod, node) in [&scene.client, scene.server()].into_iter().zip(nodes) {
        let (answer, _) = pod.get(server)?;
        ensure!(answer.client.ip() == *node, "seen as {}", answer.client);
        let report = pod.load(server, 500, Connections::New)?;
        ensure!(report.failures.is_empty() && report.answered == 500, "{:?}", report.failures.first());
        ensure!(pod.ask_udp(server)?.0.client.ip() == *node);
        ensure!(pod.ping(address, 56)? == Ping::Answered);
    }
    Ok(())
}

pub(crate) fn what_pods_say_to_each_other_is_not_masqueraded() -> Result<()> {
    not_masqueraded(Stack::V4)
}

pub(crate) fn not_masqueraded(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    let server = SocketAddr::new(scene.server().address(), 80);
    let report = scene.client.load(server, 100, Connections::New)?;
    ensure!(report.answered == 100 && report.translated == 0, "{report:?}");
    Ok(())
}
