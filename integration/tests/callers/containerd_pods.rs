//! Pods that containerd runs, a containerd on each node: they talk, survive its restart, go without a trace; and one that
//! cannot be wired says why.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use integration::Cluster;
use serde_json::json;

use crate::{
    containerd::Containerd,
    networks::Networks,
    talk::{PORT, ensure_they_talk, serve},
};

fn start(cluster: &Cluster, networks: &Networks) -> Result<Vec<Containerd>> {
    let pairs = cluster.nodes().iter().zip(networks.each());
    pairs.map(|(node, network)| Containerd::start(node, network)).collect()
}

pub(crate) fn b_containerd_runs_pods_that_talk_across_nodes() -> Result<()> {
    let cluster = Cluster::start()?;
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let networks = Networks::shipped(&cluster)?.chained(&[], &[portmap])?;
    let mut runtimes = start(&cluster, &networks)?;
    let outsider = cluster.outsider("outsider", Ipv4Addr::new(192, 168, 77, 200))?;
    // Chains that portmap makes once and keeps are made in the first round.
    let mut before = None;
    for round in 0..2 {
        let client = runtimes[0].run_pod("client", &[])?;
        let server = runtimes[1].run_pod("server", &[(8080, PORT)])?;
        let program = serve(&cluster, &server.wired)?;
        ensure_they_talk(&client.wired, &server.wired)?;
        let host_port = SocketAddr::new(cluster.node(2)?.address().into(), 8080);
        let (answer, from) = outsider.get(host_port).context("the host port")?;
        ensure!(answer.client == from, "the server sees {}, not {from}", answer.client);

        if round > 0 {
            runtimes[1].restart()?;
            ensure!(runtimes[1].pods()? == [(server.id.clone(), true)], "the restart lost {}", server.id);
            ensure_they_talk(&client.wired, &server.wired).context("after containerd's restart")?;
        }
        drop(program);
        runtimes[0].remove_pod(&client)?;
        runtimes[1].remove_pod(&server)?;
        match &before {
            None => before = Some(networks.remains(&cluster)?),
            Some(before) => networks.ensure_gone(&cluster, before)?,
        }
    }
    Ok(())
}

pub(crate) fn b_containerd_tells_why_a_pod_cannot_be_wired() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let networks = Networks::shipped(&cluster)?;
    let runtime = &start(&cluster, &networks)?[0];
    ensure!(
        runtime.network_ready()? == (true, String::new()),
        "not ready at first: {:?}",
        runtime.network_ready()?
    );
    let before = networks.remains(&cluster)?;

    // Without its agent, which would write it again.
    cluster.node(1)?.kill_agent()?;
    let node_file = cluster.node(1)?.runtime_dir().join("node.json");
    let kept = fs::read(&node_file)?;
    fs::remove_file(&node_file)?;
    let (ready, why) = runtime.network_ready()?;
    ensure!(
        !ready && why.contains("beelined"),
        "without the agent's file the network is ready: {ready}, {why}"
    );
    let refused = runtime.run_pod("too-early", &[]).err().context("a pod runs without a network")?;
    let refused = format!("{refused:#}");
    ensure!(refused.contains("beelined"), "the pod's error says nothing of the cause: {refused}");

    fs::write(&node_file, kept)?;
    networks.ensure_gone(&cluster, &before).context("of the pod that was refused")?;
    ensure!(runtime.pods()?.is_empty(), "the pod that was refused is still there: {:?}", runtime.pods()?);
    ensure!(runtime.network_ready()?.0, "still not ready");
    let pod = runtime.run_pod("later", &[])?;
    runtime.remove_pod(&pod)?;
    networks.ensure_gone(&cluster, &before)
}
