//! Which endpoints take what a pod asks: traffic policies, topology, states, ports of nodes; and what `beelinectl trace` says
//! of it before anything is sent.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Result, ensure};
use integration::{
    Cluster,
    load::{Connections, Report},
};

use crate::scene::{Scene, ensure_perfect};

const PORT: u16 = 30_080;
const ASKED: u32 = 200;

/// A client on the first of three nodes, and a server on each of these.
fn scene(nodes: &[usize]) -> Result<Scene> {
    Scene::with_servers_on(Cluster::builder().nodes(3), nodes)
}

fn answerers(report: &Report) -> BTreeSet<&str> {
    report.servers.keys().map(String::as_str).collect()
}

/// All requests to `at` are answered, by these servers.
fn answered_by(scene: &Scene, at: SocketAddr, servers: &[&str]) -> Result<()> {
    let report = scene.client.load(at, ASKED, Connections::New)?;
    ensure_perfect(&report, ASKED)?;
    let expected: BTreeSet<&str> = servers.iter().copied().collect();
    ensure!(answerers(&report) == expected, "{at}: {:?} answered, not {servers:?}", report.servers);
    Ok(())
}

/// Requests to the VIP are refused at once.
fn refused(scene: &Scene) -> Result<()> {
    let Err(error) = scene.client.get(scene.vip()) else {
        anyhow::bail!("somebody answered");
    };
    ensure!(format!("{error:#}").contains("refused"), "{error:#}");
    Ok(())
}

pub(crate) fn c_internal_traffic_policy_local_asks_this_node_alone_and_is_rejected_without() -> Result<()> {
    let scene = scene(&[1, 2])?;
    let local = || scene.service().with("internalTrafficPolicy: local");
    scene.cluster.set_services([scene.service()])?;
    answered_by(&scene, scene.vip(), &["server0", "server1"])?;
    scene.cluster.set_services([local()])?;
    answered_by(&scene, scene.vip(), &["server0"])?;
    let elsewhere = integration::Service::new("echo", scene.vip()).to(scene.servers[1].address(), 80);
    scene.cluster.set_services([elsewhere.with("internalTrafficPolicy: local")])?;
    refused(&scene)
}

pub(crate) fn c_traffic_distribution_prefers_the_clients_node_while_it_has_an_endpoint() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder(), &[1, 2])?;
    let near = |service: integration::Service| service.with("trafficDistribution: preferSameNode");
    scene.cluster.set_services([near(scene.service())])?;
    answered_by(&scene, scene.vip(), &["server0"])?;
    let far = integration::Service::new("echo", scene.vip()).to(scene.servers[1].address(), 80);
    scene.cluster.set_services([near(far)])?;
    answered_by(&scene, scene.vip(), &["server1"])
}

pub(crate) fn c_terminating_endpoints_are_asked_only_when_no_other_is_ready() -> Result<()> {
    let scene = scene(&[1, 2])?;
    let [first, second] = [0, 1].map(|n| scene.servers[n].address());
    let service = || integration::Service::new("echo", scene.vip());
    scene.cluster.set_services([service().draining(first, 80).to(second, 80)])?;
    answered_by(&scene, scene.vip(), &["server1"])?;
    let backends = &scene.client.node().ctl_json("services echo")?["services"][0]["backends"];
    let state = |n: usize| backends[n]["state"].as_str().map(str::to_owned);
    ensure!(state(0).as_deref() == Some("draining") && state(1).as_deref() == Some("ready"), "{backends}");
    scene.cluster.set_services([service().draining(first, 80)])?;
    answered_by(&scene, scene.vip(), &["server0"])
}

pub(crate) fn c_a_pod_is_answered_at_each_nodes_port_as_that_nodes_policy_has_it() -> Result<()> {
    let scene = scene(&[1, 2])?;
    let at = |n: usize| -> Result<SocketAddr> {
        Ok(SocketAddr::new(scene.cluster.node(n)?.address().into(), PORT))
    };
    let service = || scene.service().with(&format!("nodePorts: [{{ port: {PORT} }}]"));
    scene.cluster.set_services([service()])?;
    for n in 1..=3 {
        answered_by(&scene, at(n)?, &["server0", "server1"])?;
    }
    scene.cluster.set_services([service().with("externalTrafficPolicy: local")])?;
    // The pod's own node is inside: any endpoint will do.
    answered_by(&scene, at(1)?, &["server0", "server1"])?;
    answered_by(&scene, at(2)?, &["server1"])?;
    let node = scene.client.node();
    ensure!(scene.client.get(at(3)?).is_err(), "node 3 has no server");
    let silent = node.drops()?.of("no_local_backend");
    ensure!(silent > 0, "dropped for another reason: {:?}", node.drops()?);
    let asked = node.ctl_json(&format!("trace {} {}", scene.client.address(), at(3)?))?;
    ensure!(asked["drop"] == "no_local_backend" && asked["service"] == "echo@nowhere", "{asked}");
    Ok(())
}

pub(crate) fn c_a_trace_says_what_then_happens() -> Result<()> {
    let scene = scene(&[1, 2])?;
    let (node, pod) = (scene.client.node(), scene.client.address());
    let trace = |to: SocketAddr, more: &str| node.ctl_json(&format!("trace {pod} {to} {more}"));
    let layers = |asked: &serde_json::Value| -> Vec<String> {
        let steps = asked["steps"].as_array().into_iter().flatten();
        steps.filter_map(|step| step["layer"].as_str().map(str::to_owned)).collect()
    };
    let local = scene.servers[0].address().to_string();
    let mut kinds = BTreeSet::new();
    for port in 40_000..40_016 {
        let asked = trace(scene.vip(), &format!("--source-port {port}"))?;
        ensure!(layers(&asked) == ["guard", "flow", "lb", "forward"], "{asked}");
        let backend = asked["backend"].as_str().unwrap_or_default();
        let is_local = backend == format!("{local}:80");
        ensure!(asked["to"]["kind"] == if is_local { "pod" } else { "node" }, "{asked}");
        kinds.insert(is_local);
    }
    ensure!(kinds.len() == 2, "sixteen ports, one backend");
    // A port where no service is; no backend; and a sender that is nobody's.
    let other = SocketAddr::new(scene.vip().ip(), 9);
    ensure!(trace(other, "")?["drop"] == "no_frontend", "{}", trace(other, "")?);
    scene.cluster.set_services([integration::Service::new("echo", scene.vip())])?;
    let asked = trace(scene.vip(), "")?;
    ensure!(asked["drop"] == "no_backend" && layers(&asked) == ["guard", "flow", "lb", "drop"], "{asked}");
    refused(&scene)?;
    let nobody = node.ctl_json(&format!("trace 10.244.1.250 {}", scene.vip()))?;
    ensure!(nobody["drop"] == "forged_source" && layers(&nobody) == ["guard", "drop"], "{nobody}");
    Ok(())
}
