//! Persistence by source IP: a client stays with its backend.

use anyhow::{Result, ensure};
use integration::{Affinity, Cluster, Stack, load::Connections};

use crate::scene::{Scene, ensure_perfect};

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
    let mut backends = std::collections::BTreeSet::new();
    for n in 0..6 {
        let client = scene.cluster.pod(&format!("other{n}")).on(scene.cluster.node(1)?)?;
        let report = client.load(vip, 20, Connections::New)?;
        ensure!(report.servers.len() == 1, "{:?}", report.servers);
        backends.extend(report.servers.into_keys());
    }
    ensure!(backends.len() > 1, "six clients, one backend: {backends:?}");
    Ok(())
}
