//! ADD and DEL killed by `kill -9` before every single step that changes something: nothing is left after a DEL, and
//! without one all comes back by itself once the pod is gone.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::{Cluster, Netns, Node, cni::Call, steps::Cut, traces::Traces, wait};

/// More steps than any call has.
const TOO_MANY: usize = 400;

/// A namespace for container `name`, and the call `command` for it.
fn container(cluster: &Cluster, node: &Node, name: &str, command: &str) -> Result<(Netns, Call)> {
    let netns = Netns::create(&format!("{}{name}", cluster.prefix()))?;
    let call = Call::new(node, command, name, &netns.path().to_string_lossy());
    Ok((netns, call))
}

/// Has `round` kill a call at each of its steps, from the first to the last, and gives what they were. Fails unless the
/// call that is too short to be killed is a good one.
fn at_every_step(mut round: impl FnMut(usize) -> Result<Cut>) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    for n in 1..TOO_MANY {
        match round(n)? {
            Cut::Before(step) => steps.push(step),
            Cut::Ended(0) => return Ok(steps),
            Cut::Ended(code) => {
                bail!("the call failed by itself, with {code}, before step {n}; before: {steps:?}")
            }
        }
    }
    bail!("{TOO_MANY} steps did not bring the call to its end")
}

/// Fails unless the steps between the first and the last are those of the dataplane, the kernel and the files.
fn ensure_all_kinds(steps: &[String]) -> Result<()> {
    for kind in ["send", "write", "rename", "bpf(MAP_UPDATE_ELEM)"] {
        ensure!(steps.iter().any(|step| step == kind), "no `{kind}` among the steps: {steps:?}");
    }
    Ok(())
}

/// Fails unless five more pods find an address: none of a /29 was lost.
fn ensure_none_lost(cluster: &Cluster, node: &Node) -> Result<()> {
    let pods: Result<Vec<_>> = (0..5).map(|n| cluster.pod(&format!("pod{n}")).on(node)).collect();
    pods.context("an address was lost")?;
    Ok(())
}

pub(crate) fn b_add_killed_at_every_step_leaves_nothing_after_del() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).pod_prefix(29).start()?;
    let node = cluster.node(1)?;
    let before = Traces::of(node)?;
    let steps = at_every_step(|n| {
        let (netns, add) = container(&cluster, node, &format!("killed{n}"), "ADD")?;
        let cut = add.kill_at(node, n)?;
        let path = netns.path().to_string_lossy().into_owned();
        Call::new(node, "DEL", &format!("killed{n}"), &path).run(node)?.ok()?;
        let after = Traces::of(node)?;
        ensure!(after == before, "killed at step {n}, {cut:?}: left {after:?}, before {before:?}");
        Ok(cut)
    })?;
    ensure_all_kinds(&steps)?;
    ensure_none_lost(&cluster, node)
}

pub(crate) fn b_del_killed_at_every_step_leaves_nothing_after_another() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).pod_prefix(29).start()?;
    let node = cluster.node(1)?;
    let before = Traces::of(node)?;
    let steps = at_every_step(|n| {
        let (netns, add) = container(&cluster, node, &format!("killed{n}"), "ADD")?;
        add.run(node)?.ok()?;
        let del = Call::new(node, "DEL", &format!("killed{n}"), &netns.path().to_string_lossy());
        let cut = del.kill_at(node, n)?;
        del.run(node)?.ok()?;
        let after = Traces::of(node)?;
        ensure!(after == before, "killed at step {n}, {cut:?}: left {after:?}, before {before:?}");
        Ok(cut)
    })?;
    ensure!(steps.iter().any(|step| step == "bpf(MAP_DELETE_ELEM)"), "{steps:?}");
    ensure!(steps.iter().any(|step| step == "unlink"), "{steps:?}");
    ensure_none_lost(&cluster, node)
}

pub(crate) fn b_what_killed_calls_left_comes_back_by_itself() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).pod_prefix(29).start()?;
    let node = cluster.node(1)?;
    let before = Traces::of(node)?;
    for command in ["ADD", "DEL"] {
        // Five addresses: after a few of these no ADD would succeed if those of the dead were not taken back.
        at_every_step(|n| {
            let name = format!("{}{n}", command.to_lowercase());
            let (netns, add) = container(&cluster, node, &name, "ADD")?;
            let cut = if command == "ADD" {
                add.kill_at(node, n)?
            } else {
                add.run(node)?.ok().with_context(|| format!("before DEL was killed at step {n}"))?;
                Call::new(node, "DEL", &name, &netns.path().to_string_lossy()).kill_at(node, n)?
            };
            drop(netns);
            // The kernel takes a namespace apart in its own time.
            wait::until("the dead pod's port to go", Duration::from_mins(1), || {
                Ok(!node.exec("ip -o link show type veth")?.contains(": bl"))
            })?;
            Ok(cut)
        })?;
    }
    ensure_none_lost(&cluster, node)?;
    // And GC finds all that no ADD has needed yet.
    let config = serde_json::json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": [] });
    node.network_call("GC", &config).run(node)?.ok()?;
    let after = Traces::of(node)?;
    ensure!(after == before, "left {after:?}, before {before:?}");
    Ok(())
}
