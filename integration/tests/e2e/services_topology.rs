//! Zones, topology and traffic policies that change while connections are open: these go on, and new ones go where the change
//! leads them.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Family, Service, Stack, http::Connection, load::Connections};

use crate::scene::{BOTH, Scene, ensure_perfect, vip_of};

const NODE_PORT: u16 = 30_080;
const ASKED: u32 = 60;

/// A connection that is kept, where it leads to and by whom it was answered first.
struct Kept {
    to: SocketAddr,
    server: String,
    connection: Connection,
}

impl Kept {
    fn open(scene: &Scene, to: SocketAddr) -> Result<Self> {
        let mut connection = scene.client.run(|| Connection::open(to))??;
        Ok(Self { to, server: connection.ask()?.server, connection })
    }

    fn goes_on(&mut self) -> Result<()> {
        for _ in 0..3 {
            let answer = self.connection.ask()?;
            ensure!(
                answer.server == self.server,
                "{}: {} answers, not {}",
                self.to,
                answer.server,
                self.server
            );
        }
        Ok(())
    }
}

/// What a service may say of its topology, and which servers then take what the client's node is asked newly.
const STEPS: [(&str, &[&str], &[&str]); 9] = [
    ("", &["east", "east", "west"], &["server0", "server1", "server2"]),
    ("trafficDistribution: preferSameZone", &["east", "east", "west"], &["server0", "server1"]),
    ("trafficDistribution: preferSameZone", &["west", "east", "west"], &["server0", "server2"]),
    ("trafficDistribution: preferSameNode", &["west", "east", "west"], &["server0"]),
    ("internalTrafficPolicy: local", &["west", "east", "west"], &["server0"]),
    ("trafficDistribution: preferSameZone", &["east", "west", "west"], &["server0"]),
    // Nobody is near: anybody will do.
    ("internalTrafficPolicy: cluster", &["north", "east", "west"], &["server0", "server1", "server2"]),
    ("trafficDistribution: preferSameZone", &["west", "east", "west"], &["server0", "server2"]),
    ("", &["west", "east", "west"], &["server0", "server1", "server2"]),
];

pub(crate) fn c_topology_changes_reset_no_connection_and_lead_new_ones() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual).nodes(3), &[1, 2, 3])?;
    let node_port = SocketAddr::new(scene.client.node().address().into(), NODE_PORT);
    let service = |line: &str| -> Service {
        let service = scene.service().with(&format!("nodePorts: [{{ port: {NODE_PORT} }}]"));
        if line.is_empty() { service } else { service.with(line) }
    };
    let mut kept: Vec<Kept> = vec![];
    for (n, (line, zones, expected)) in STEPS.into_iter().enumerate() {
        scene.cluster.move_to_zones(zones);
        // Each step changes something on each node: only what changes can be waited for.
        scene.cluster.set_services([service(line).with(&format!("flowTtl: {}s", 200 + n))])?;
        for connection in &mut kept {
            connection.goes_on().with_context(|| format!("step {n}, `{line}`, {}", connection.to))?;
        }
        for family in BOTH {
            let report = scene.client.load(vip_of(family), ASKED, Connections::New)?;
            ensure_perfect(&report, ASKED)?;
            let answered: BTreeSet<&str> = report.servers.keys().map(String::as_str).collect();
            let expected: BTreeSet<&str> = expected.iter().copied().collect();
            ensure!(answered == expected, "{family:?}, `{line}` with {zones:?}: {answered:?} answered");
        }
        // A policy gives the node port to a service of its own, whose connections end with it.
        let is_apart = line == "internalTrafficPolicy: local";
        let node_port = (!is_apart).then_some(node_port);
        for to in [vip_of(Family::V4), vip_of(Family::V6)].into_iter().chain(node_port) {
            for _ in 0..4 {
                kept.push(Kept::open(&scene, to)?);
            }
        }
    }
    for connection in &mut kept {
        connection.goes_on()?;
    }
    // Else it would have been easy.
    for to in [vip_of(Family::V4), vip_of(Family::V6), node_port] {
        let far = kept.iter().filter(|it| it.to == to && it.server != "server0").count();
        ensure!(far > 0, "no connection to {to} had to stay with a server that newer ones avoid");
    }
    Ok(())
}
