//! Persistence by source IP: a client stays with its backend.

use std::{collections::BTreeSet, net::SocketAddr, thread, time::Duration};

use anyhow::{Result, ensure};
use integration::{Affinity, Cluster, Stack, load::Connections, wait};

use crate::scene::{BOTH, Scene, ensure_perfect, vip_of};

const REQUESTS: u32 = 1_000;

pub(crate) fn a9_a_client_stays_with_one_backend() -> Result<()> {
    a_client_stays(Stack::V4)
}

pub(crate) fn a_client_stays(stack: Stack) -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(stack), &[1, 1, 2, 2])?;
    let vip = scene.vip();
    // Without affinity first: otherwise one backend would prove nothing.
    let spread = scene.client.load(vip, REQUESTS, Connections::New)?;
    ensure_perfect(&spread, REQUESTS)?;
    ensure!(spread.servers.len() == 4, "{:?}", spread.servers);
    let fewest = spread.servers.values().min().copied().unwrap_or(0);
    ensure!(fewest > u64::from(REQUESTS) / 8, "unevenly spread: {:?}", spread.servers);

    scene.cluster.set_services([scene.service().affinity(Affinity::ClientIp)])?;
    let sticky = scene.client.load(vip, REQUESTS, Connections::New)?;
    ensure_perfect(&sticky, REQUESTS)?;
    ensure!(sticky.servers.len() == 1, "{:?}", sticky.servers);

    // It is the client that stays, not everybody: of some clients, not all have the same backend.
    let mut backends = BTreeSet::new();
    for n in 0..6 {
        let client = scene.cluster.pod(&format!("other{n}")).on(scene.cluster.node(1)?)?;
        let report = client.load(vip, 20, Connections::New)?;
        ensure!(report.servers.len() == 1, "{:?}", report.servers);
        backends.extend(report.servers.into_keys());
    }
    ensure!(backends.len() > 1, "six clients, one backend: {backends:?}");
    Ok(())
}

/// Longer than the shortest time-out that there is.
const PAUSE: Duration = Duration::from_millis(1_100);
const NODE_PORT: u16 = 30_080;

/// At the VIP of each family, and at a node port.
pub(crate) fn a9_affinity_ends_with_its_time_and_with_its_switch() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual), &[1, 1, 2, 2])?;
    let node_port = SocketAddr::new(scene.cluster.node(2)?.address().into(), NODE_PORT);
    let service = || scene.service().with(&format!("nodePorts: [{{ port: {NODE_PORT} }}]"));
    let affine = || service().affinity(Affinity::ClientIp);
    for at in BOTH.map(vip_of).into_iter().chain([node_port]) {
        let who = || Ok(scene.client.get(at)?.0.server);
        let of_many = || -> Result<BTreeSet<String>> { (0..100).map(|_| who()).collect() };
        scene.cluster.set_services([affine()])?;
        let stays = of_many()?;
        ensure!(stays.len() == 1, "{at}: {stays:?} answered one client");
        // It is its time that ends it, not a pause.
        thread::sleep(PAUSE);
        ensure!(of_many()? == stays, "{at}: the client was moved before its time");
        scene.cluster.set_services([affine().with("affinityTimeout: 1s")])?;
        wait::until("the affinity to time out", Duration::from_mins(2), || {
            thread::sleep(PAUSE);
            Ok(!stays.contains(&who()?))
        })?;
        scene.cluster.set_services([service()])?;
        let spread = of_many()?;
        ensure!(spread.len() == 4, "{at}: without affinity only {spread:?} answered");
        scene.cluster.set_services([affine()])?;
        let stays = of_many()?;
        ensure!(stays.len() == 1, "{at}: switched on again, {stays:?} answered one client");
    }
    Ok(())
}
