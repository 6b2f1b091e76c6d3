//! The node itself: its processes reach pods and VIPs, and pods reach it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use integration::{Cluster, Netns, Stack, load::Connections, ping::Ping};

use crate::scene::{Scene, ensure_perfect};

/// What a packet of pods may have.
const MTU: usize = 1450;

pub(crate) fn a_node_process_reaches_pods_on_every_node() -> Result<()> {
    node_reaches_pods(Stack::V4)
}

pub(crate) fn node_reaches_pods(stack: Stack) -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(stack), &[1, 2])?;
    for node in scene.cluster.nodes() {
        for server in &scene.servers {
            let (answer, _) = node.get(SocketAddr::new(server.address(), 80))?;
            ensure!(answer.server == server.name(), "{answer:?}");
            ensure!(node.ping(server.address(), MTU - scene.ping_headers())? == Ping::Answered);
            let report = node.load(SocketAddr::new(server.address(), 80), 500, Connections::New)?;
            ensure_perfect(&report, 500)?;
        }
    }
    Ok(())
}

pub(crate) fn a_node_process_reaches_vips() -> Result<()> {
    node_reaches_vips(Stack::V4)
}

pub(crate) fn node_reaches_vips(stack: Stack) -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(stack).nodes(3), &[1, 2])?;
    // From a node with a backend, from one with the other, and from one with none.
    for node in scene.cluster.nodes() {
        let report = node.load(scene.vip(), 500, Connections::New)?;
        ensure_perfect(&report, 500)?;
        ensure!(report.servers.len() == 2, "{:?}", report.servers);
        node.ask_udp(scene.vip())?;
    }
    Ok(())
}

/// Backends of the host's network, on the node that asks and on another one, and a pod.
pub(crate) fn c_everybody_reaches_backends_on_the_hosts_network() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().nodes(3), &[1])?;
    let nodes = scene.cluster.nodes();
    let mut service = scene.service();
    let mut programs = Vec::new();
    for (node, name) in nodes[..2].iter().zip(["node1", "node2"]) {
        programs.push(node.serve_as(name, 9000, &node.log_path("echo"))?);
        service = service.to(node.address(), 9000);
    }
    scene.cluster.set_services([service])?;
    let ask = |client: &Netns| -> Result<()> {
        let report = client.load(scene.vip(), 600, Connections::New)?;
        ensure!(report.failures.is_empty(), "{:?}", report.failures.first());
        ensure!(report.servers.len() == 3, "only {:?} answered", report.servers);
        Ok(())
    };
    ask(&scene.client)?;
    for node in nodes {
        ask(node)?;
        for _ in 0..6 {
            node.ask_udp(scene.vip())?;
        }
    }
    Ok(())
}

/// Pods of other nodes, and services, see a process of a node at the address that it asks from, whichever that is.
pub(crate) fn c_a_node_process_may_ask_from_its_underlay_address() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().nodes(2), &[1, 2])?;
    let node = scene.cluster.node(1)?;
    let from = node.address();
    let servers = scene.servers.iter().map(|server| SocketAddr::new(server.address(), 80));
    for server in servers.chain([scene.vip(); 6]) {
        let answer = node.exec(&format!("curl -sS --max-time 10 --interface {from} http://{server}/"))?;
        ensure!(answer.contains(&from.to_string()), "{server} did not see {from}: {answer}");
    }
    Ok(())
}

pub(crate) fn a_pod_reaches_its_node() -> Result<()> {
    pod_reaches_its_node(Stack::V4, &[[10, 244, 1, 1].into(), [192, 168, 77, 1].into()])
}

/// `addresses` are the node's.
pub(crate) fn pod_reaches_its_node(stack: Stack, addresses: &[IpAddr]) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    let node = scene.client.node();
    let _program = node.serve_as("node1", 9000, &node.log_path("echo"))?;
    for &address in addresses {
        let (answer, local) = scene.client.get(SocketAddr::new(address, 9000))?;
        ensure!(answer.client == local, "the pod's own address was not kept: {answer:?}");
        ensure!(scene.client.ping(address, MTU - scene.ping_headers())? == Ping::Answered, "ping {address}");
    }
    Ok(())
}

pub(crate) fn a_pod_reaches_other_nodes() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let far = scene.cluster.node(2)?;
    let _program = far.serve_as("node2", 9000, &far.log_path("echo"))?;
    let server = SocketAddr::new(far.address().into(), 9000);
    let (answer, _) = scene.client.get(server)?;
    ensure!(answer.server == "node2");
    let report = scene.client.load(server, 200, Connections::New)?;
    ensure!(report.failures.is_empty(), "{:?}", report.failures.first());
    Ok(())
}
