//! One pod's calls never touch another's address, whatever was remembered of it or given twice.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns, Node, cni::Call, ping::Ping};

const ADDRESS: &str = "10.244.1.80";

fn call(node: &Node, command: &str, netns: &Netns, name: &str) -> Call {
    Call::new(node, command, name, &netns.path().to_string_lossy())
        .with("CNI_ARGS", &format!("IgnoreUnknown=1;IP={ADDRESS}"))
        .input(&node.network_config().to_string())
}

fn ensure_reached(node: &Node) -> Result<()> {
    ensure!(node.ping(ADDRESS.parse()?, 56)? == Ping::Answered, "{ADDRESS} is not reached");
    Ok(())
}

/// The plugin's record of the only attachment.
fn record(node: &Node) -> Result<PathBuf> {
    let boot = fs::read_dir(node.runtime_dir().join("attachments"))?.next().context("no boot")??;
    let record = fs::read_dir(boot.path())?.next().context("no record")??;
    Ok(record.path())
}

pub(crate) fn b_a_late_del_leaves_the_addresss_next_pod_alone() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let first = Netns::create(&format!("{}first", cluster.prefix()))?;
    let second = Netns::create(&format!("{}second", cluster.prefix()))?;
    call(node, "ADD", &first, "first").run(node)?.ok()?;
    let path = record(node)?;
    let remembered = fs::read(&path)?;
    call(node, "DEL", &first, "first").run(node)?.ok()?;
    call(node, "ADD", &second, "second").run(node)?.ok()?;
    ensure_reached(node)?;
    // As if the first DEL had been killed after it gave the address back: what it had written down is still there.
    fs::write(&path, remembered)?;
    call(node, "DEL", &first, "first").run(node)?.ok()?;
    ensure_reached(node)
}

pub(crate) fn b_a_record_that_cannot_be_read_keeps_no_del() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    call(node, "ADD", &netns, "pod").run(node)?.ok()?;
    fs::write(record(node)?, "{}")?;
    call(node, "DEL", &netns, "pod").run(node)?.ok()?;
    call(node, "ADD", &netns, "pod").run(node)?.ok()?;
    ensure_reached(node)
}

pub(crate) fn b_a_pod_may_have_the_longest_of_names() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    let args = format!(
        "IgnoreUnknown=1;IP={ADDRESS};K8S_POD_NAMESPACE={};K8S_POD_NAME={}",
        "n".repeat(63),
        "p".repeat(253)
    );
    let id = "c".repeat(64);
    call(node, "ADD", &netns, &id).with("CNI_ARGS", &args).run(node)?.ok()?;
    ensure_reached(node)
}
