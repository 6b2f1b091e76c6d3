//! Addresses that the CNI project's own IPAM plugins give, host-local and static, by way of Beeline and libcni.

use std::fs;

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns};
use serde_json::{Value, json};

use crate::{
    cnitool::Cnitool,
    network::Network,
    talk::{ensure_they_talk, serve},
};

/// Wires a pod on each of two nodes with what `ipam` says of the node's number, lets them talk, and removes them.
fn wire(cluster: &Cluster, ipam: impl Fn(usize) -> Value, wanted: [&str; 2]) -> Result<()> {
    let network = |n: usize| -> Result<Network> {
        let node = cluster.node(n)?;
        Network::shipped(node, &format!("{}{}", cluster.prefix(), node.name()), None)?.with_ipam(ipam(n))
    };
    let (first, second) = (network(1)?, network(2)?);
    let tools = [Cnitool::new(cluster.node(1)?, &first), Cnitool::new(cluster.node(2)?, &second)];
    let netns = |name| Netns::create(&format!("{}{name}", cluster.prefix()));
    let pods = [netns("client")?, netns("server")?];
    let mut wired = Vec::new();
    for ((tool, pod), wanted) in tools.iter().zip(&pods).zip(wanted) {
        let (pod, result) = tool.add(pod)?;
        ensure!(result["ips"][0]["address"] == wanted, "{wanted} was to be given: {result}");
        wired.push(pod);
    }
    let _program = serve(cluster, &wired[1])?;
    ensure_they_talk(&wired[0], &wired[1])?;
    for (tool, pod) in tools.iter().zip(&pods) {
        for command in ["check", "status", "del", "del"] {
            tool.call(command, pod)?.ok().context(command)?;
        }
    }
    Ok(())
}

pub(crate) fn b_host_local_gives_addresses_and_takes_them_back() -> Result<()> {
    let cluster = Cluster::start()?;
    let dir = |n: usize| -> Result<_> { Ok(cluster.node(n)?.runtime_dir().with_file_name("host-local")) };
    let (first, second) = (dir(1)?, dir(2)?);
    let ipam = |n| {
        let range = json!({"subnet": format!("10.244.{n}.0/24"), "rangeStart": format!("10.244.{n}.100")});
        json!({"type": "host-local", "ranges": [[range]], "dataDir": if n == 1 { &first } else { &second }})
    };
    wire(&cluster, ipam, ["10.244.1.100/32", "10.244.2.100/32"])?;
    for dir in [&first, &second] {
        for network in fs::read_dir(dir)? {
            let held = fs::read_dir(network?.path())?.flatten().map(|entry| entry.file_name());
            let held: Vec<_> = held.filter(|name| name.to_string_lossy().starts_with("10.")).collect();
            ensure!(held.is_empty(), "host-local still holds {held:?}");
        }
    }
    Ok(())
}

pub(crate) fn b_static_gives_the_address_that_the_configuration_names() -> Result<()> {
    let cluster = Cluster::start()?;
    let ipam = |n| json!({"type": "static", "addresses": [{"address": format!("10.244.{n}.77/32")}]});
    wire(&cluster, ipam, ["10.244.1.77/32", "10.244.2.77/32"])
}
