//! Node ports as others than pods ask them: processes of the nodes, and machines outside. Pods meet the balancer at their
//! own port; these meet the host's stack first, which hands them over.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Result, ensure};
use integration::{
    Cluster, Family, Netns, Service, Stack,
    cluster::{underlay_address, underlay_ipv6},
    load::{Connections, Report},
};

use crate::{outside::outsider, scene::Scene};

const PORT: u16 = 30_080;
const ASKED: u32 = 400;

/// A server on each of two nodes, three nodes, and a machine outside.
struct Asked {
    scene: Scene,
    outside: Netns,
    /// The machine's address.
    from: IpAddr,
}

impl Asked {
    fn start(policy: &str, stack: Stack) -> Result<Self> {
        let builder = Cluster::builder().nodes(3).stack(stack).underlay_ipv6();
        let scene = Scene::with_servers_on(builder, &[1, 2])?;
        let service = scene
            .service()
            .with(&format!("nodePorts: [{{ port: {PORT} }}, {{ port: {PORT}, protocol: udp }}]"))
            .with(&format!("externalTrafficPolicy: {policy}"));
        scene.cluster.set_services([service])?;
        let (outside, from) = outsider(&scene.cluster, scene.family())?;
        Ok(Self { scene, outside, from })
    }

    /// The node port of node `n`.
    fn at(&self, n: u8) -> SocketAddr {
        let address = match self.scene.family() {
            Family::V4 => underlay_address(n).into(),
            Family::V6 => underlay_ipv6(n),
        };
        SocketAddr::new(address, PORT)
    }
}

/// Who answered, if all was answered.
fn answerers(report: &Report) -> Result<BTreeSet<&str>> {
    ensure!(
        report.failures.is_empty(),
        "{} failed, first: {:?}",
        report.failures.len(),
        report.failures.first()
    );
    Ok(report.servers.keys().map(String::as_str).collect())
}

pub(crate) fn c_a_nodes_own_process_reaches_every_nodes_node_port() -> Result<()> {
    [Stack::V4, Stack::V6].into_iter().try_for_each(own_process_reaches_all)
}

fn own_process_reaches_all(stack: Stack) -> Result<()> {
    let asked = Asked::start("cluster", stack)?;
    let node = asked.scene.cluster.node(1)?;
    for n in 1..=3 {
        let report = node.load(asked.at(n), ASKED, Connections::New)?;
        ensure!(answerers(&report)?.len() == 2, "node {n}: only {:?} answered", report.servers);
        ensure!(node.ask_udp(asked.at(n))?.0.server.starts_with("server"));
    }
    // It is no node port of the loopback's, and no other port of the node's is taken.
    let _own = node.serve_as("own", 8080, &node.log_path("own"))?;
    let (answer, client) = node.get(SocketAddr::new(asked.at(1).ip(), 8080))?;
    ensure!(answer.server == "own" && answer.client == client, "{answer:?}");
    Ok(())
}

pub(crate) fn c_the_outside_reaches_every_nodes_node_port() -> Result<()> {
    [Stack::V4, Stack::V6].into_iter().try_for_each(outside_reaches_all)
}

fn outside_reaches_all(stack: Stack) -> Result<()> {
    let asked = Asked::start("cluster", stack)?;
    for n in 1..=3 {
        let report = asked.outside.load(asked.at(n), ASKED, Connections::New)?;
        ensure!(answerers(&report)?.len() == 2, "node {n}: only {:?} answered", report.servers);
        ensure!(asked.outside.ask_udp(asked.at(n))?.0.server.starts_with("server"));
    }
    Ok(())
}

/// The servers of the node that is asked see the client's own address; where there is none, nobody answers.
pub(crate) fn c_with_a_local_policy_the_outside_is_answered_by_the_node_it_asks() -> Result<()> {
    [Stack::V4, Stack::V6].into_iter().try_for_each(local_policy)
}

fn local_policy(stack: Stack) -> Result<()> {
    let asked = Asked::start("local", stack)?;
    for (n, server) in [(1, "server0"), (2, "server1")] {
        let report = asked.outside.load(asked.at(n), ASKED, Connections::New)?;
        ensure!(answerers(&report)? == BTreeSet::from([server]), "node {n}: {:?} answered", report.servers);
        ensure!(report.translated == 0, "{} of {ASKED} did not see the client's address", report.translated);
        let (answer, port) = asked.outside.ask_udp(asked.at(n))?;
        ensure!(answer.server == server && answer.client == SocketAddr::new(asked.from, port), "{answer:?}");
    }
    let nobody = asked.outside.get(asked.at(3));
    ensure!(nobody.is_err(), "node 3 has no server, and {nobody:?} answered");
    // A process of a node is inside: on its own node, any server will do; on another, that node's.
    let node = asked.scene.cluster.node(3)?;
    let report = node.load(asked.at(3), ASKED, Connections::New)?;
    ensure!(answerers(&report)?.len() == 2, "{:?} answered", report.servers);
    // By IPv6 it is the node's address in the overlay: no VXLAN leads to the other.
    let is_translated = asked.scene.family() == Family::V6 && report.translated == u64::from(ASKED);
    ensure!(is_translated || report.translated == 0, "{} of {ASKED} saw another address", report.translated);
    let report = node.load(asked.at(2), ASKED, Connections::New)?;
    ensure!(answerers(&report)? == BTreeSet::from(["server1"]), "{:?} answered", report.servers);
    Ok(())
}

/// When the service is gone, so are the host's rules and routes for it.
pub(crate) fn c_a_node_port_goes_with_its_service() -> Result<()> {
    [Stack::V4, Stack::V6].into_iter().try_for_each(goes_with_its_service)
}

fn goes_with_its_service(stack: Stack) -> Result<()> {
    let asked = Asked::start("cluster", stack)?;
    let node = asked.scene.cluster.node(1)?;
    let rules = || node.exec("nft list table inet beeline");
    ensure!(rules()?.contains("30080"), "no rule for the node port");
    asked.scene.cluster.set_services([] as [Service; 0])?;
    ensure!(!rules()?.contains("30080"), "the rule is still there: {}", rules()?);
    let routes = node.exec("ip route show")? + &node.exec("ip -6 route show")?;
    ensure!(!routes.contains("169.254.1.2") && !routes.contains("fd62:6565:6c69:6e65::2"), "a route is left");
    ensure!(asked.outside.get(asked.at(1)).is_err(), "somebody answered");
    Ok(())
}
