//! LBNAT rules: what a rule does to a packet, what `beelinectl policy` says of it, and what was measured.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Family, Service, Stack, frames::mac_text, load::Connections};
use serde_json::Value;

use crate::scene::{Scene, ensure_perfect};

pub(crate) fn a5_rule_is_shown_as_vfp_shows_it() -> Result<()> {
    is_shown_as_vfp_shows_it(Stack::V4)
}

pub(crate) fn is_shown_as_vfp_shows_it(stack: Stack) -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(stack), &[1, 2])?;
    scene.cluster.set_services([scene.service().flow_ttl("90s")])?;
    let node = scene.client.node();
    let text = node.ctl("policy")?;
    let [first, second] = [0, 1].map(|n| scene.servers[n].address().to_string());
    let destination = format!("Destination IP : {}", scene.vip().ip());
    let facts = [
        &destination,
        "Destination ports : 8000",
        "Flow TTL: 90",
        "Decrementing TTL",
        "Fixing MAC",
        "Modifying destination IP",
        "Modifying destination port",
        "Creating a flow pair",
        "Count of DIP Ranges: 2",
        &first,
        &second,
        "IsDSR: TRUE",
    ];
    for fact in facts {
        ensure!(text.contains(fact), "no `{fact}` in:\n{text}");
    }
    // The same for programs: one rule for each frontend.
    let rules = node.ctl_json("policy")?;
    let protocols: Vec<_> = list(&rules, "policies")?.iter().map(|rule| rule["protocol"].clone()).collect();
    ensure!(protocols == [6, 17], "{rules}");
    Ok(())
}

pub(crate) fn a5_packet_leaves_with_backend_ttl_macs_and_flow_pair() -> Result<()> {
    packet_leaves_changed_and_with_a_flow_pair(Stack::V4)
}

pub(crate) fn packet_leaves_changed_and_with_a_flow_pair(stack: Stack) -> Result<()> {
    for scene in Scene::of_each_kind(stack)? {
        let (server, vip) = (scene.server(), scene.vip());
        let (packets, (_, local)) =
            server.capture_during("eth0", "tcp and dst port 80", || scene.client.get(vip))?;
        let request = packets.first().context("the server saw no request")?;
        let to_mac = format!("> {}, ethertype {}", mac_text(server.mac()), scene.family().name());
        let addresses = format!("{}.{} > {}.80:", local.ip(), local.port(), server.address());
        let ttl = match scene.family() {
            Family::V4 => "ttl 63",
            Family::V6 => "hlim 63",
        };
        // One router is passed, the client's port; and what a packet should not have is not there.
        for part in [ttl, to_mac.as_str(), addresses.as_str()] {
            ensure!(request.contains(part), "no `{part}` in {request}");
        }
        ensure!(!packets.iter().any(|packet| packet.contains("bad cksum")), "{packets:?}");

        let flows = scene.client.node().ctl_json("flows --protocol tcp")?;
        let flows = list(&flows, "flows")?;
        let find = |source: String, destination: String| {
            let mut flows = flows.iter();
            flows.find(|flow| flow["source"] == source && flow["destination"] == destination)
        };
        let backend = SocketAddr::new(server.address(), 80).to_string();
        let forward = find(local.to_string(), vip.to_string()).context("no forward half")?;
        ensure!(forward["half"] == "request" && forward["rewrite"] == "destination", "{forward}");
        ensure!(forward["rewritten"] == backend, "{forward}");
        let reverse = find(backend, local.to_string()).context("no reverse half")?;
        ensure!(reverse["half"] == "reply" && reverse["rewrite"] == "source", "{reverse}");
        ensure!(reverse["rewritten"] == vip.to_string(), "{reverse}");
    }
    Ok(())
}

pub(crate) fn a10_every_policy_says_is_dsr_and_what_was_measured() -> Result<()> {
    every_policy_says_is_dsr(Stack::V4)
}

pub(crate) fn every_policy_says_is_dsr(stack: Stack) -> Result<()> {
    let requests = 500;
    let scene = Scene::across_nodes_with(stack)?;
    let node = scene.client.node();
    let other = SocketAddr::new(scene.vip().ip(), 8001);
    let other = Service::new("by-kube-proxy", other).to(scene.server().address(), 80);
    scene.cluster.set_services([scene.service(), other.dsr(false)])?;
    let text = node.ctl("policy")?;
    ensure!(text.matches("IsDSR: TRUE").count() == 2, "two rules with DSR, TCP and UDP:\n{text}");
    ensure!(text.matches("IsDSR: FALSE").count() == 2, "two rules without:\n{text}");

    let before = measured(&scene, "echo")?;
    ensure_perfect(&scene.client.load(scene.vip(), requests, Connections::New)?, requests)?;
    let after = measured(&scene, "echo")?;
    let grew = |key: &str| after[key].as_u64().unwrap_or(0) - before[key].as_u64().unwrap_or(0);
    ensure!(after["isDSR"] == true, "{after}");
    ensure!(grew("newFlows") == u64::from(requests), "{after}");
    // A request is SYN, ACK, data, FIN, and more; its replies as many.
    ensure!(grew("directPackets") >= 4 * u64::from(requests), "{after}");
    ensure!(grew("directReplies") >= 3 * u64::from(requests), "{after}");
    ensure!(grew("viaHostPackets") == 0, "{after}");

    // Off: the live state says so, and packets are measured the other way.
    scene.turn_dsr_off()?;
    let before = measured(&scene, "echo")?;
    ensure_perfect(&scene.client.load(scene.vip(), requests, Connections::New)?, requests)?;
    let after = measured(&scene, "echo")?;
    let grew = |key: &str| after[key].as_u64().unwrap_or(0) - before[key].as_u64().unwrap_or(0);
    ensure!(after["isDSR"] == false, "{after}");
    ensure!(grew("directPackets") == 0 && grew("directReplies") == 0, "{after}");
    ensure!(grew("viaHostPackets") >= 4 * u64::from(requests), "{after}");
    Ok(())
}

/// The TCP rule of service `name` on the client's node: what was measured, and `isDSR`.
fn measured(scene: &Scene, name: &str) -> Result<Value> {
    let rules = scene.client.node().ctl_json(&format!("policy --service {name}"))?;
    let mut rules = list(&rules, "policies")?.iter();
    let rule = rules.find(|rule| rule["protocol"] == 6).context("no TCP rule")?;
    let mut measured = rule["measured"].clone();
    measured["isDSR"] = rule["isDSR"].clone();
    Ok(measured)
}

fn list<'a>(report: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    report[key].as_array().with_context(|| format!("no {key} in {report}"))
}
