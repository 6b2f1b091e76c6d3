//! Taking Beeline off a cluster again, and what can then be put on its nodes.

use std::fs;

use anyhow::{Result, ensure};

use crate::{
    clients::stop_clients,
    cluster::{
        NAMESPACE, get, install, items, kubectl, nodes, on_node, repository, rolled_out, root_of, until,
    },
};

/// Without pods of the pod network, nothing of Beeline is left on a node. Then one runs the systemd unit, and at last
/// Beeline is installed again, and the cluster works as before.
pub(crate) fn uninstalled_nodes_are_clean() -> Result<()> {
    let manifests = repository().join("manifests/kubernetes");
    let (overlay, uninstall) = (manifests.join("overlays/kind"), manifests.join("uninstall"));
    stop_clients()?;
    // Pods that are still wired would be left without a network, and their addresses accounted for.
    kubectl("-n kube-system scale deployment/coredns --replicas=0")?;
    until("the pods of the pod network to go", || {
        let pods = get("pods --all-namespaces")?;
        Ok(items(&pods).all(|pod| pod["spec"]["hostNetwork"] == true))
    })?;
    kubectl(&format!("delete -k {} --wait=true", overlay.display()))?;
    kubectl(&format!("apply -k {}", uninstall.display()))?;
    rolled_out(NAMESPACE, "daemonset/beeline-uninstall")?;
    for node in nodes()? {
        ensure_clean(&node)?;
    }
    kubectl(&format!("delete -k {} --wait=true", uninstall.display()))?;
    for node in nodes()? {
        a12_systemd_starts_the_unit(&node)?;
        ensure_clean(&node)?;
    }
    install("kind")?;
    kubectl("wait --for=condition=Ready node --all --timeout=120s")?;
    kubectl("-n kube-system scale deployment/coredns --replicas=2")?;
    rolled_out("kube-system", "deployment/coredns")
}

fn ensure_clean(node: &str) -> Result<()> {
    let root = root_of(node)?;
    let left = [
        "etc/cni/net.d/10-beeline.conflist",
        "opt/cni/bin/beeline",
        "run/beeline/node.json",
        "sys/fs/bpf/beeline",
    ];
    for file in left {
        ensure!(!root.join(file).exists(), "{node}: /{file} is still there");
    }
    for look in ["ip -o link show", "ip route show table all", "nft list tables"] {
        let found = on_node(node, look)?;
        ensure!(!found.contains("beeline"), "{node}: `{look}` still shows it:\n{found}");
    }
    Ok(())
}

/// The unit as it is, with a configuration of this node alone.
fn a12_systemd_starts_the_unit(node: &str) -> Result<()> {
    let root = root_of(node)?;
    let address = get(&format!("node {node}"))?["status"]["addresses"][0]["address"].clone();
    let program = repository().join("target/image/rootfs/usr/bin/beelined");
    let unit = repository().join("manifests/beelined.service");
    fs::create_dir_all(root.join("usr/local/sbin"))?;
    fs::create_dir_all(root.join("etc/beeline"))?;
    fs::copy(program, root.join("usr/local/sbin/beelined"))?;
    fs::copy(unit, root.join("etc/systemd/system/beelined.service"))?;
    let nodes = format!("node: me\nnodes: [{{ name: me, address: {address}, podCidrs: [10.99.0.0/24] }}]\n");
    fs::write(root.join("etc/beeline/node.yaml"), nodes)?;
    on_node(node, "systemctl daemon-reload")?;
    on_node(node, "systemctl start beelined")?;
    let ready = ["run/beeline/node.json", "etc/cni/net.d/10-beeline.conflist"];
    until("the unit to make a node", || Ok(ready.iter().all(|file| root.join(file).exists())))?;
    ensure!(on_node(node, "systemctl is-active beelined")?.trim() == "active");
    on_node(node, "systemctl stop beelined")?;
    ensure!(root.join(ready[0]).exists(), "what the agent left for the plugin goes with the unit");
    on_node(node, "beelined uninstall --cni-conf-dir /etc/cni/net.d --cni-bin-dir /opt/cni/bin")?;
    for file in ["usr/local/sbin/beelined", "etc/systemd/system/beelined.service", "etc/beeline/node.yaml"] {
        fs::remove_file(root.join(file))?;
    }
    on_node(node, "systemctl daemon-reload").map(drop)
}
