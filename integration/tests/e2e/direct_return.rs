//! Direct return: requests to a VIP and their replies pass both hosts' stacks by. Each proof has its twin in which
//! the same counters move, so that their standing still means something.

use anyhow::{Result, ensure};
use integration::{Attach, Cluster, Stack, cluster::Builder, load::Connections, traffic::Traffic};

use crate::scene::{MANY, Scene, ensure_silent};

pub(crate) fn a1_overlay_reply_bypasses_both_hosts() -> Result<()> {
    across_nodes(Cluster::builder())
}

pub(crate) fn a1_overlay_reply_bypasses_both_hosts_by_tcx() -> Result<()> {
    across_nodes(Cluster::builder().attach(Attach::Tcx))
}

pub(crate) fn a1_overlay_reply_bypasses_both_hosts_by_clsact() -> Result<()> {
    across_nodes(Cluster::builder().attach(Attach::Clsact))
}

pub(crate) fn across_nodes(builder: Builder) -> Result<()> {
    let scene = Scene::with_servers_on(builder, &[2])?;
    let (near, far) = (scene.cluster.node(1)?, scene.cluster.node(2)?);
    for connections in [Connections::Kept, Connections::New] {
        let hops = (near.hops()?, far.hops()?);
        let seen = scene.watch(MANY, connections)?;
        ensure_silent(scene.cluster.nodes(), &seen)?;
        ensure!(near.host_stack()?.conntrack.is_empty() && far.host_stack()?.conntrack.is_empty());
        // And the other way round: what passed was counted on the direct ways, and on no other.
        for (node, before) in [(near, hops.0), (far, hops.1)] {
            let took = node.hops()?.since(&before);
            let ways: Vec<_> = took.iter().map(|(way, _)| way).collect();
            ensure!(ways == ["port_to_overlay", "uplink_to_port"], "{} took {took}", node.name());
            ensure!(took.iter().all(|(_, packets)| packets >= MANY.into()), "{} took {took}", node.name());
        }
    }
    Ok(())
}

pub(crate) fn a1_datagrams_bypass_both_hosts() -> Result<()> {
    datagrams(&Scene::across_nodes()?)
}

pub(crate) fn a1_twin_with_dsr_off_the_clients_host_sees_everything() -> Result<()> {
    dsr_off_across_nodes(Stack::V4)
}

pub(crate) fn dsr_off_across_nodes(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    scene.turn_dsr_off()?;
    let seen = scene.watch(MANY, Connections::Kept)?;
    // Requests and replies, at least one packet each, all through the client's host.
    let near = &seen[0];
    ensure!(near.forwarded >= 2 * u64::from(MANY), "{near}");
    ensure!(near.hook("prerouting") >= 2 * u64::from(MANY), "{near}");
    ensure!(near.hook("forward") >= 2 * u64::from(MANY), "{near}");
    ensure!(!near.conntrack.is_empty(), "{near}");
    Ok(())
}

pub(crate) fn a1_twin_with_the_arrival_program_detached_the_far_host_sees_requests() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().attach(Attach::Tcx), &[2])?;
    let far = scene.cluster.node(2)?;
    // Without its agent, which would put it back.
    far.kill_agent()?;
    far.detach("eth0")?;
    let hops = far.hops()?;
    let seen = scene.watch(MANY, Connections::Kept)?;
    let (near, far_stack) = (&seen[0], &seen[1]);
    ensure!(near.is_silent(), "{near}");
    ensure!(far_stack.received >= u64::from(MANY), "{far_stack}");
    ensure!(far_stack.hook("prerouting") >= u64::from(MANY), "{far_stack}");
    ensure!(far_stack.hook("input") >= u64::from(MANY), "{far_stack}");
    let took = far.hops()?.since(&hops);
    ensure!(took.of("overlay_to_port") >= u64::from(MANY) && took.of("uplink_to_port") == 0, "{took}");

    // The agent heals it, and the host is silent again.
    far.start_agent()?;
    ensure_silent(scene.cluster.nodes(), &scene.watch(1_000, Connections::Kept)?)
}

pub(crate) fn a2_same_node_reply_bypasses_the_host() -> Result<()> {
    on_one_node(Cluster::builder())
}

pub(crate) fn a2_same_node_reply_bypasses_the_host_by_clsact() -> Result<()> {
    on_one_node(Cluster::builder().attach(Attach::Clsact))
}

pub(crate) fn on_one_node(builder: Builder) -> Result<()> {
    let scene = Scene::with_servers_on(builder.nodes(1), &[1])?;
    let node = scene.cluster.node(1)?;
    for connections in [Connections::Kept, Connections::New] {
        let hops = node.hops()?;
        let seen = scene.watch(MANY, connections)?;
        ensure_silent(scene.cluster.nodes(), &seen)?;
        let took = node.hops()?.since(&hops);
        ensure!(took.of("port_to_port") == took.total(), "{took}");
        ensure!(took.total() >= 2 * u64::from(MANY), "{took}");
    }
    Ok(())
}

pub(crate) fn a2_datagrams_bypass_the_host() -> Result<()> {
    datagrams(&Scene::on_one_node()?)
}

pub(crate) fn a2_twin_with_dsr_off_the_host_sees_everything() -> Result<()> {
    dsr_off_on_one_node(Stack::V4)
}

pub(crate) fn dsr_off_on_one_node(stack: Stack) -> Result<()> {
    let scene = Scene::on_one_node_with(stack)?;
    scene.turn_dsr_off()?;
    let seen = &scene.watch(MANY, Connections::Kept)?[0];
    ensure!(seen.forwarded >= 2 * u64::from(MANY), "{seen}");
    ensure!(seen.hook("forward") >= 2 * u64::from(MANY), "{seen}");
    ensure!(!seen.conntrack.is_empty(), "{seen}");
    Ok(())
}

/// A second of datagrams and connections of every kind.
pub(crate) fn datagrams(scene: &Scene) -> Result<()> {
    let (seen, outcome) = scene.watch_hosts(|| {
        let traffic = Traffic::start(&scene.client, scene.vip());
        std::thread::sleep(std::time::Duration::from_secs(1));
        traffic.stop()
    })?;
    ensure!(outcome.broken.is_empty() && outcome.lost() == 0, "{outcome:?}");
    ensure!(outcome.sent >= 500, "{outcome:?}");
    ensure_silent(scene.cluster.nodes(), &seen)
}
