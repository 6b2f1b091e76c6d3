//! Nothing depends on a living agent: killed, restarted or absent, no connection breaks and no packet is lost.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Result, ensure};
use integration::{
    Attach, Cluster, Stack,
    load::Connections,
    traffic::{Outcome, Traffic},
};

use crate::scene::{Scene, VIP, ensure_perfect, ensure_silent};

/// Kills of each agent.
const KILLS: u64 = 10;
/// Times that each node's programs are replaced.
const REPLACEMENTS: usize = 5;

pub(crate) fn d_agent_killed_and_restarted_under_load_breaks_nothing() -> Result<()> {
    kill_under_load(Stack::V4)
}

pub(crate) fn kill_under_load(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    // The control run: what a quiet agent loses, a killed one may lose too.
    let quiet = under_traffic(&scene, || {
        thread::sleep(Duration::from_secs(1));
        Ok(())
    })?;
    ensure!(quiet.broken.is_empty() && quiet.lost() == 0, "without any kill: {quiet:?}");

    let outcome = under_traffic(&scene, || {
        for kill in 0..KILLS {
            for node in scene.cluster.nodes() {
                // At different moments of its start and of its steady state.
                thread::sleep(Duration::from_millis(17 * kill % 120));
                node.kill_agent()?;
                node.spawn_agent()?;
            }
        }
        scene.cluster.nodes().iter().try_for_each(integration::Node::wait_ready)
    })?;
    ensure!(outcome.broken.is_empty(), "{} broke, first {}", outcome.broken.len(), outcome.broken[0]);
    ensure!(outcome.lost() == 0, "{} of {} datagrams were lost", outcome.lost(), outcome.sent);
    ensure!(outcome.asked > 1_000 && outcome.opened > 50 && outcome.sent > 1_000, "{outcome:?}");
    let seen = scene.watch(1_000, Connections::Kept)?;
    ensure_silent(scene.cluster.nodes(), &seen)
}

pub(crate) fn d_programs_replaced_under_load_break_nothing() -> Result<()> {
    replace_under_load(Attach::Tcx)
}

pub(crate) fn d_programs_replaced_under_load_break_nothing_by_clsact() -> Result<()> {
    replace_under_load(Attach::Clsact)
}

/// With one pin gone, an agent that starts loads all programs anew and puts them in the place of the old ones, as
/// for an upgrade.
fn replace_under_load(attach: Attach) -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().attach(attach), &[2])?;
    let before = programs(&scene)?;
    let outcome = under_traffic(&scene, || {
        for _ in 0..REPLACEMENTS {
            for node in scene.cluster.nodes() {
                node.kill_agent()?;
                fs::remove_file(node.bpffs().join("programs/from_overlay"))?;
                node.start_agent()?;
            }
        }
        Ok(())
    })?;
    ensure!(outcome.broken.is_empty(), "{} broke, first {}", outcome.broken.len(), outcome.broken[0]);
    ensure!(outcome.lost() == 0, "{} of {} datagrams were lost", outcome.lost(), outcome.sent);
    ensure!(outcome.asked > 1_000 && outcome.opened > 50 && outcome.sent > 1_000, "{outcome:?}");
    let kept: Vec<_> = programs(&scene)?.into_iter().filter(|program| before.contains(program)).collect();
    ensure!(kept.is_empty(), "these were not replaced: {kept:?}");
    // CHECK compares what is on the pod's port with what is pinned now.
    for pod in [&scene.client, scene.server()] {
        pod.call("CHECK").run(pod.node())?.ok()?;
    }
    Ok(())
}

/// Every pinned program of every node, by path and inode: another program is another inode.
fn programs(scene: &Scene) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for node in scene.cluster.nodes() {
        for entry in fs::read_dir(node.bpffs().join("programs"))? {
            let entry = entry?;
            found.push((entry.path(), std::os::unix::fs::DirEntryExt::ino(&entry)));
        }
    }
    Ok(found)
}

pub(crate) fn d_traffic_and_pod_start_go_on_without_an_agent() -> Result<()> {
    let scene = Scene::across_nodes()?;
    for node in scene.cluster.nodes() {
        node.kill_agent()?;
    }
    ensure_perfect(&scene.client.load(VIP, 500, Connections::New)?, 500)?;
    let late = scene.cluster.pod("late").on(scene.cluster.node(2)?)?;
    ensure_perfect(&late.load(VIP, 500, Connections::New)?, 500)?;
    Ok(())
}

pub(crate) fn d_an_agent_that_starts_finds_the_change_made_meanwhile() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let other = scene.cluster.pod("other").on(scene.cluster.node(1)?)?;
    let _program = other.serve(80)?;
    for node in scene.cluster.nodes() {
        node.kill_agent()?;
    }
    scene.cluster.set_services([integration::Service::new("echo", VIP).to(other.address(), 80)])?;
    ensure!(scene.client.get(VIP)?.0.server == "server0", "nobody could have told it yet");
    for node in scene.cluster.nodes() {
        node.start_agent()?;
    }
    ensure!(scene.client.get(VIP)?.0.server == "other");
    Ok(())
}

pub(crate) fn d_a_restarted_agent_keeps_what_it_finds_in_place() -> Result<()> {
    keeps_what_it_finds(Stack::V4)
}

pub(crate) fn keeps_what_it_finds(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    let node = scene.client.node();
    let state = || -> Result<(String, String, Vec<u64>)> {
        let mut inodes = Vec::new();
        for part in ["maps", "programs", "links"] {
            for entry in fs::read_dir(node.bpffs().join(part))? {
                inodes.push(std::os::unix::fs::DirEntryExt::ino(&entry?));
            }
        }
        inodes.sort_unstable();
        let routes = node.exec("ip route show table all")? + &node.exec("ip -6 route show table all")?;
        Ok((node.exec("ip -o link show")?, routes, inodes))
    };
    let before = state()?;
    node.kill_agent()?;
    node.start_agent()?;
    let after = state()?;
    ensure!(before.0 == after.0, "devices changed:\n{}\n{}", before.0, after.0);
    ensure!(before.1 == after.1, "routes changed:\n{}\n{}", before.1, after.1);
    ensure!(before.2 == after.2, "pins were made anew: {:?} {:?}", before.2, after.2);
    Ok(())
}

fn under_traffic(scene: &Scene, work: impl FnOnce() -> Result<()>) -> Result<Outcome> {
    let traffic = Traffic::start(&scene.client, scene.vip());
    thread::sleep(Duration::from_millis(200));
    let done = work();
    thread::sleep(Duration::from_millis(200));
    let outcome = traffic.stop()?;
    done?;
    Ok(outcome)
}
