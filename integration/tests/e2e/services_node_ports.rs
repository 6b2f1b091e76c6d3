//! Node ports as others than pods ask them: processes of the nodes, and machines outside. Pods meet the balancer at their
//! own port; these meet the host's stack first, which hands them over.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Result, ensure};
use integration::{
    Cluster, Netns, Service,
    load::{Connections, Report},
};

use crate::scene::Scene;

const PORT: u16 = 30_080;
const ASKED: u32 = 400;
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 100);

/// A server on each of two nodes, three nodes, and a machine outside.
struct Asked {
    scene: Scene,
    outside: Netns,
}

impl Asked {
    fn start(policy: &str) -> Result<Self> {
        let scene = Scene::with_servers_on(Cluster::builder().nodes(3), &[1, 2])?;
        let service = scene
            .service()
            .with(&format!("nodePorts: [{{ port: {PORT} }}, {{ port: {PORT}, protocol: udp }}]"))
            .with(&format!("externalTrafficPolicy: {policy}"));
        scene.cluster.set_services([service])?;
        let outside = scene.cluster.outsider("outside", OUTSIDE)?;
        Ok(Self { scene, outside })
    }

    /// The node port of node `n`.
    fn at(&self, n: usize) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.scene.cluster.node(n)?.address().into(), PORT))
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
    let asked = Asked::start("cluster")?;
    let node = asked.scene.cluster.node(1)?;
    for n in 1..=3 {
        let report = node.load(asked.at(n)?, ASKED, Connections::New)?;
        ensure!(answerers(&report)?.len() == 2, "node {n}: only {:?} answered", report.servers);
        ensure!(node.ask_udp(asked.at(n)?)?.0.server.starts_with("server"));
    }
    // It is no node port of the loopback's, and no other port of the node's is taken.
    let _own = node.serve_as("own", 8080, &node.log_path("own"))?;
    let (answer, client) = node.get(SocketAddr::new(node.address().into(), 8080))?;
    ensure!(answer.server == "own" && answer.client == client, "{answer:?}");
    Ok(())
}

pub(crate) fn c_the_outside_reaches_every_nodes_node_port() -> Result<()> {
    let asked = Asked::start("cluster")?;
    for n in 1..=3 {
        let report = asked.outside.load(asked.at(n)?, ASKED, Connections::New)?;
        ensure!(answerers(&report)?.len() == 2, "node {n}: only {:?} answered", report.servers);
        ensure!(asked.outside.ask_udp(asked.at(n)?)?.0.server.starts_with("server"));
    }
    Ok(())
}

/// The servers of the node that is asked see the client's own address; where there is none, nobody answers.
pub(crate) fn c_with_a_local_policy_the_outside_is_answered_by_the_node_it_asks() -> Result<()> {
    let asked = Asked::start("local")?;
    for (n, server) in [(1, "server0"), (2, "server1")] {
        let report = asked.outside.load(asked.at(n)?, ASKED, Connections::New)?;
        ensure!(answerers(&report)? == BTreeSet::from([server]), "node {n}: {:?} answered", report.servers);
        ensure!(report.translated == 0, "{} of {ASKED} did not see the client's address", report.translated);
        let (answer, port) = asked.outside.ask_udp(asked.at(n)?)?;
        ensure!(
            answer.server == server && answer.client == SocketAddr::new(OUTSIDE.into(), port),
            "{answer:?}"
        );
    }
    let nobody = asked.outside.get(asked.at(3)?);
    ensure!(nobody.is_err(), "node 3 has no server, and {nobody:?} answered");
    // A process of a node is inside: on its own node, any server will do; on another, that node's.
    let node = asked.scene.cluster.node(3)?;
    let report = node.load(asked.at(3)?, ASKED, Connections::New)?;
    ensure!(answerers(&report)?.len() == 2, "{:?} answered", report.servers);
    ensure!(report.translated == 0, "{} of {ASKED} did not see the node's address", report.translated);
    let report = node.load(asked.at(2)?, ASKED, Connections::New)?;
    ensure!(answerers(&report)? == BTreeSet::from(["server1"]), "{:?} answered", report.servers);
    Ok(())
}

/// When the service is gone, so are the host's rules and routes for it.
pub(crate) fn c_a_node_port_goes_with_its_service() -> Result<()> {
    let asked = Asked::start("cluster")?;
    let node = asked.scene.cluster.node(1)?;
    let rules = || node.exec("nft list table inet beeline");
    ensure!(rules()?.contains("30080"), "no rule for the node port");
    asked.scene.cluster.set_services([] as [Service; 0])?;
    ensure!(!rules()?.contains("30080"), "the rule is still there: {}", rules()?);
    ensure!(!node.exec("ip route show")?.contains("169.254.1.2"), "a route is left");
    ensure!(asked.outside.get(asked.at(1)?).is_err(), "somebody answered");
    Ok(())
}
