//! GC and STATUS: what no valid attachment owns goes, what is in use stays, and a node that cannot take pods says why.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Node, Pod, cni::Call, ping::Ping, traces::Traces, wait};
use serde_json::{Value, json};

/// GC of the network called `network`, in which `pods` are valid under the key `key`.
fn gc(node: &Node, network: &str, key: &str, pods: &[&Pod]) -> Result<()> {
    let valid: Vec<_> =
        pods.iter().map(|pod| json!({ "containerID": pod.container_id(), "ifname": "eth0" })).collect();
    let fields = json!({ "cniVersion": "1.1.0", "name": network, key: valid });
    node.network_call("GC", &fields).run(node)?.ok()?;
    Ok(())
}

/// What STATUS says: nothing, or a code and words.
fn status(node: &Node) -> Result<Option<(u64, String)>> {
    let call = node.network_call("STATUS", &json!({ "cniVersion": "1.1.0" }));
    Ok(call.run(node)?.failure().ok())
}

fn ensure_status(node: &Node, code: u64, word: &str) -> Result<()> {
    let (found, message) =
        status(node)?.with_context(|| format!("STATUS says that all is well, without {word}"))?;
    ensure!(found == code && message.contains(word), "without {word}: code {found}: {message}");
    Ok(())
}

pub(crate) fn b_gc_takes_what_no_valid_attachment_owns_in_both_spellings() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let kept = cluster.pod("kept").on(node)?;
    let with_one = Traces::of(node)?;
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let _stale = cluster.pod("stale").on(node)?;
        let with_two = Traces::of(node)?;
        // Another network's GC is not about them, and one that names nobody must not guess.
        gc(node, "another", key, &[])?;
        node.network_call("GC", &json!({ "cniVersion": "1.1.0" })).run(node)?.ok()?;
        ensure!(Traces::of(node)? == with_two, "what another network or nobody owns was taken");
        gc(node, "beeline", key, &[&kept])?;
        let after = Traces::of(node)?;
        ensure!(after == with_one, "by {key}: {after:?} in place of {with_one:?}");
        kept.call("CHECK").run(node)?.ok()?;
        ensure!(node.ping(kept.address(), 56)? == Ping::Answered, "the valid pod was harmed");
    }
    let malformed = json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": [{ "containerID": "x" }] });
    let (code, message) = node.network_call("GC", &malformed).run(node)?.failure()?;
    ensure!(code == 6 && message.contains("valid-attachments"), "code {code}: {message}");
    kept.call("CHECK").run(node)?.ok()?;
    Ok(())
}

pub(crate) fn b_gc_takes_back_what_dead_pods_held() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let before = Traces::of(node)?;
    let pod = cluster.pod("dies").on(node)?;
    // A process that is still in the namespace keeps it, and so its address, whatever became of its path.
    let mut sleeper = pod.command("sleep").arg("60").spawn()?;
    pod.remove_name();
    let live = Traces::of(node)?;
    let whole = json!({ "cniVersion": "1.1.0" });
    node.network_call("GC", &whole).run(node)?.ok()?;
    ensure!(Traces::of(node)? == live, "a pod with a process in it was taken for dead");
    sleeper.kill()?;
    sleeper.wait()?;
    // Its DEL never comes.
    pod.abandon();
    wait::until("the dead pod's link to go", Duration::from_secs(20), || {
        Ok(!node.exec("ip -o link show type veth")?.contains(": bl"))
    })?;
    node.network_call("GC", &whole).run(node)?.ok()?;
    let after = Traces::of(node)?;
    ensure!(after == before, "left {after:?}, before {before:?}");
    Ok(())
}

pub(crate) fn b_del_check_and_gc_do_without_agent_and_pins() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let (one, two) = (cluster.pod("one").on(node)?, cluster.pod("two").on(node)?);
    node.kill_agent()?;
    one.call("CHECK").run(node)?.ok()?;
    fs::remove_dir_all(node.bpffs().join("maps"))?;
    let (code, message) = one.call("CHECK").run(node)?.failure()?;
    ensure!(code == 110 && message.contains("maps"), "code {code}: {message}");
    one.call("DEL").run(node)?.ok()?;
    gc(node, "beeline", "cni.dev/valid-attachments", &[])?;
    let links = node.exec("ip -o link show type veth")?;
    ensure!(!links.contains(": bl"), "ports are left: {links}");
    ensure!(fs::read_dir(node.bpffs().join("links"))?.count() > 0, "the uplink's pin is no pod's");
    // Everything but the runtime folder's name may be gone.
    fs::remove_dir_all(node.runtime_dir())?;
    two.call("DEL").run(node)?.ok()?;
    gc(node, "beeline", "cni.dev/valid-attachments", &[])
}

pub(crate) fn b_status_tells_why_no_pod_can_start() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).pod_prefix(29).without_agents().start()?;
    let node = cluster.node(1)?;
    ensure_status(node, 50, "beelined has not set this node up yet")?;
    node.start_agent()?;
    ensure!(status(node)?.is_none(), "{:?}", status(node)?);

    let pods: Result<Vec<_>> = (0..5).map(|n| cluster.pod(&format!("pod{n}")).on(node)).collect();
    let mut pods = pods?;
    ensure_status(node, 50, "all 5 addresses")?;
    // What a dead pod holds is no reason.
    let dead = pods.pop().context("no pod")?;
    dead.abandon();
    wait::until("STATUS to find the dead pod", Duration::from_secs(20), || Ok(status(node)?.is_none()))?;

    let uplink = "eth0";
    node.ip(&format!("link set {uplink} down"))?;
    ensure_status(node, 51, uplink)?;
    node.ip(&format!("link set {uplink} up"))?;
    node.kill_agent()?;
    ensure!(status(node)?.is_none(), "pods can start without a living agent: {:?}", status(node)?);
    fs::remove_file(node.bpffs().join("programs/from_pod"))?;
    ensure_status(node, 50, "from_pod")
}

pub(crate) fn b_gc_and_status_are_of_1_1_0() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).without_agents().start()?;
    let node = cluster.node(1)?;
    for command in ["GC", "STATUS"] {
        let call: Call = node.network_call(command, &Value::Null);
        let (code, message) = call.run(node)?.failure()?;
        ensure!(code == 1 && message.contains("1.1.0"), "{command}: code {code}: {message}");
    }
    Ok(())
}
