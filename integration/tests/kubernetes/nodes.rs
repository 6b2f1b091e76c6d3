//! Nodes that go and come.

use anyhow::{Context, Result, ensure};
use integration::load::Connections;

use crate::{
    clients::{client, stop_clients},
    cluster::{NAMESPACE, get, kubectl, nodes, on_node, rolled_out, until},
    echo::Echo,
};

/// A node that is taken out of the cluster is forgotten by the others; when it registers again, perhaps with another pod
/// prefix, its pods are reached again, and reach others.
pub(crate) fn a_node_goes_and_comes_back() -> Result<()> {
    let names = nodes()?;
    let (other, leaving) = (&names[1], &names[2]);
    let prefix = prefix_of(leaving)?;
    ensure!(knows(other, &prefix)?, "{other} has no route to {prefix}");
    let zone = get(&format!("node {leaving}"))?["metadata"]["labels"]["topology.kubernetes.io/zone"].clone();

    // Who is on a node that leaves is nowhere for a while.
    stop_clients()?;
    on_node(leaving, "systemctl stop kubelet")?;
    kubectl(&format!("delete node {leaving}"))?;
    until(&format!("{other} to forget {prefix}"), || Ok(!knows(other, &prefix)?))?;
    {
        // Meanwhile services go on with those that are left.
        let echo = Echo::start("fewer", 4)?;
        let report = client(other)?.load(echo.vip, 200, Connections::New)?;
        ensure!(report.failures.is_empty(), "with a node less: {:?}", report.failures.first());
    }
    stop_clients()?;

    on_node(leaving, "systemctl start kubelet")?;
    until("the node to register again", || Ok(prefix_of(leaving).is_ok()))?;
    let zone = zone.as_str().context("the node was in no zone")?;
    kubectl(&format!("label node {leaving} --overwrite topology.kubernetes.io/zone={zone}"))?;
    kubectl(&format!("wait --for=condition=Ready node/{leaving} --timeout=180s"))?;
    rolled_out(NAMESPACE, "daemonset/beeline")?;
    let prefix = prefix_of(leaving)?;
    until(&format!("{other} to know {prefix}"), || knows(other, &prefix))?;
    let echo = Echo::start("more", 6)?;
    ensure!(echo.servers()?.iter().any(|server| server.node == *leaving), "no server is on {leaving}");
    for node in [other, leaving] {
        let report = client(node)?.load(echo.vip, 300, Connections::New)?;
        ensure!(report.failures.is_empty(), "from {node}: {:?}", report.failures.first());
        ensure!(report.servers.len() == 6, "from {node} only {:?} answered", report.servers);
    }
    Ok(())
}

fn prefix_of(node: &str) -> Result<String> {
    let found = get(&format!("node {node}"))?["spec"]["podCIDR"].as_str().map(str::to_owned);
    found.with_context(|| format!("{node} has no pod prefix"))
}

fn knows(node: &str, prefix: &str) -> Result<bool> {
    Ok(on_node(node, &format!("ip route show {prefix}"))?.contains(prefix))
}
