//! Beeline called by libcni: alone in each version, chained with the CNI project's plugins, asked to collect garbage,
//! asked whether it is ready.

use std::{fs, net::Ipv4Addr, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns};
use serde_json::json;

use crate::{
    cnitool::Cnitool,
    network::Network,
    networks::Networks,
    remains::Remains,
    talk::{PORT, ensure_they_talk, serve},
};

const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// Pods that a node with a /29 has addresses for.
const POOL: usize = 5;

pub(crate) fn b_cnitool_wires_pods_in_each_version() -> Result<()> {
    let cluster = Cluster::builder().pod_prefix(29).start()?;
    for version in VERSIONS {
        wire_and_remove(&cluster, version).with_context(|| format!("CNI {version}"))?;
    }
    // No address was lost on the way.
    let networks = Networks::shipped(&cluster)?;
    let cnitool = Cnitool::new(cluster.node(1)?, &networks.each()[0]);
    let netns = |n| Netns::create(&format!("{}full{n}", cluster.prefix()));
    let pods = (0..=POOL).map(netns).collect::<Result<Vec<_>>>()?;
    for (n, pod) in pods[..POOL].iter().enumerate() {
        cnitool.add(pod).with_context(|| format!("pod {n} of {POOL}: an address was lost"))?;
    }
    let refused = cnitool.call("add", &pods[POOL])?;
    ensure!(!refused.status.success(), "a pod too many was wired: {}", refused.stdout);
    pods.iter().try_for_each(|pod| cnitool.call("del", pod)?.ok().map(drop))
}

fn wire_and_remove(cluster: &Cluster, version: &str) -> Result<()> {
    let networks = Networks::speaking(version, cluster)?;
    let [one, two] = [0, 1].map(|n| Cnitool::new(&cluster.nodes()[n], &networks.each()[n]));
    let before = networks.remains(cluster)?;
    let netns = ["client", "server"].map(|name| Netns::create(&format!("{}{name}", cluster.prefix())));
    let [client_netns, server_netns] = netns;
    let (client_netns, server_netns) = (client_netns?, server_netns?);

    let (client, result) = one.add(&client_netns)?;
    ensure!(result["cniVersion"] == version, "{result}");
    ensure!((version == "0.4.0") == (result["ips"][0]["version"] == "4"), "{result}");
    ensure!(result["interfaces"][1]["sandbox"] == json!(client_netns.path()), "{result}");
    let (server, _) = two.add(&server_netns)?;
    let _program = serve(cluster, &server)?;
    ensure_they_talk(&client, &server)?;

    for (tool, pod) in [(&one, &client_netns), (&two, &server_netns)] {
        for command in ["check", "status", "del"] {
            tool.call(command, pod)?.ok()?;
        }
        ensure!(!pod.exec("ip -o link")?.contains("eth0"), "eth0 is still there");
        tool.call("del", pod)?.ok().context("DEL again")?;
    }
    networks.ensure_gone(cluster, &before)
}

pub(crate) fn b_cnitool_chains_the_reference_plugins() -> Result<()> {
    let cluster = Cluster::start()?;
    let first = [json!({"type": "loopback"})];
    let then = [
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
        json!({"type": "firewall"}),
        json!({"type": "tuning", "sysctl": {"net.ipv4.ip_unprivileged_port_start": "79"}}),
    ];
    let outsider = cluster.outsider("outsider", Ipv4Addr::new(192, 168, 77, 200))?;
    // Chains that the plugins make once and keep are made in the first round.
    let mut before = None;
    for version in [VERSIONS[0]].iter().chain(&VERSIONS) {
        let networks = Networks::speaking(version, &cluster)?.chained(&first, &then)?;
        wire_chained(&cluster, &networks, &outsider).with_context(|| format!("CNI {version}"))?;
        match &before {
            None => before = Some(networks.remains(&cluster)?),
            Some(before) => networks.ensure_gone(&cluster, before)?,
        }
    }
    Ok(())
}

fn wire_chained(cluster: &Cluster, networks: &Networks, outsider: &Netns) -> Result<()> {
    let capabilities = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": PORT, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 100_000_000, "ingressBurst": 10_000_000,
                      "egressRate": 100_000_000, "egressBurst": 10_000_000},
    });
    let tools =
        [0, 1].map(|n| Cnitool::new(&cluster.nodes()[n], &networks.each()[n]).with(capabilities.clone()));
    let [client, server] =
        ["client", "server"].map(|name| Netns::create(&format!("{}{name}", cluster.prefix())));
    let (client_netns, server_netns) = (client?, server?);
    let (client, result) = tools[0].add(&client_netns)?;
    let interfaces = result["interfaces"].as_array().into_iter().flatten();
    let names: Vec<_> = interfaces.filter_map(|interface| interface["name"].as_str()).collect();
    ensure!(names.first() == Some(&"lo") && names.contains(&"eth0"), "what came before us is lost: {result}");
    let (server, _) = tools[1].add(&server_netns)?;

    let _program = serve(cluster, &server)?;
    ensure_they_talk(&client, &server)?;
    let node = &cluster.nodes()[1];
    let (answer, from) =
        outsider.get(SocketAddr::new(node.address().into(), 8080)).context("the host port")?;
    ensure!(answer.client == from, "the server sees {}, not {from}", answer.client);
    let tuned = server_netns.exec("sysctl -n net.ipv4.ip_unprivileged_port_start")?;
    ensure!(tuned.trim() == "79", "tuning left the sysctl at {tuned}");
    let rules = node.exec("nft --stateless list ruleset")?;
    ensure!(rules.contains(&server.address.to_string()), "neither portmap nor firewall left a rule: {rules}");

    for (tool, pod) in tools.iter().zip([&client_netns, &server_netns]) {
        for command in ["check", "status", "del", "del"] {
            tool.call(command, pod)?.ok()?;
        }
    }
    Ok(())
}

pub(crate) fn b_cnitool_collects_garbage_but_what_is_valid() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let networks = Networks::shipped(&cluster)?;
    let (node, network) = (cluster.node(1)?, &networks.each()[0]);
    let cnitool = Cnitool::new(node, network);
    let before = networks.remains(&cluster)?;
    let netns = ["stays", "goes", "is-forgotten"];
    let netns = netns.map(|name| Netns::create(&format!("{}{name}", cluster.prefix())));
    let [stays, goes, is_forgotten] = netns;
    let (stays, goes, is_forgotten) = (stays?, goes?, is_forgotten?);

    let (pod, _) = cnitool.add(&stays)?;
    let valid = attachments(network)?;
    let one = Remains::of(node, network)?;
    cnitool.add(&goes)?;
    cnitool.add(&is_forgotten)?;
    // libcni calls DEL for what it remembers: of this one only our own GC can know.
    for attachment in attachments(network)? {
        let container = attachment.split('/').next().unwrap_or_default();
        let result = fs::read_to_string(result_file(network, container))?;
        if result.contains(&is_forgotten.path().display().to_string()) {
            fs::remove_file(result_file(network, container))?;
        }
    }
    cnitool.gc(&valid)?;
    one.ensure_gone(node, network).context("GC with one valid attachment")?;
    cnitool.call("check", &stays)?.ok().context("the valid one")?;
    ensure!(node.ping(pod.address, 56)? == integration::ping::Ping::Answered, "the valid one is cut off");

    // cnitool itself names no valid attachment at all.
    cnitool.call("gc", &stays)?.ok()?;
    networks.ensure_gone(&cluster, &before)
}

pub(crate) fn b_cnitool_hears_why_a_node_is_not_ready() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let networks = Networks::shipped(&cluster)?;
    let node = cluster.node(1)?;
    let cnitool = Cnitool::new(node, &networks.each()[0]);
    // STATUS is about no pod, but cnitool wants one.
    let pod = Netns::create(&format!("{}pod", cluster.prefix()))?;
    cnitool.call("status", &pod)?.ok()?;
    node.kill_agent()?;
    cnitool.call("status", &pod)?.ok().context("nothing depends on a living agent")?;
    fs::remove_file(node.runtime_dir().join("node.json"))?;
    let refused = cnitool.call("status", &pod)?;
    let says = format!("{}{}", refused.stdout, refused.stderr);
    ensure!(!refused.status.success() && says.contains("beelined"), "without the agent's file: {says}");
    Ok(())
}

/// The attachments that libcni remembers of a network, as `CONTAINER/IFNAME`.
fn attachments(network: &Network) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(RESULTS)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let rest =
            name.strip_prefix(&format!("{}-", network.name())).and_then(|rest| rest.strip_suffix("-eth0"));
        found.extend(rest.map(|container| format!("{container}/eth0")));
    }
    Ok(found)
}

/// What libcni remembers of a container.
fn result_file(network: &Network, container: &str) -> std::path::PathBuf {
    format!("{RESULTS}/{}-{container}-eth0", network.name()).into()
}

const RESULTS: &str = "/var/lib/cni/results";
