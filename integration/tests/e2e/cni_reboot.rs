//! State of another time: before a reboot, or of another release.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns, Node, Pod, binaries, cni::Call, process, wait};

/// Five pods: all that a /29 has room for.
fn fill(cluster: &Cluster, node: &Node, name: &str) -> Result<Vec<Pod>> {
    (0..5).map(|n| cluster.pod(&format!("{name}{n}")).on(node)).collect()
}

fn empty(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }?;
    }
    Ok(())
}

pub(crate) fn b_after_a_reboot_del_succeeds_and_every_address_is_free() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).pod_prefix(29).start()?;
    let node = cluster.node(1)?;
    let old = fill(&cluster, node, "old")?;
    let calls: Vec<_> = old.iter().map(|pod| pod.call("DEL").without("CNI_NETNS")).collect();
    // The machine goes down: no agent, no pods, and nothing on file systems in memory.
    node.kill_agent()?;
    old.into_iter().for_each(Pod::abandon);
    fs::remove_dir_all(node.bpffs())?;
    empty(&node.runtime_dir())?;
    for device in ["beeline0", "beeline-vxlan"] {
        node.ip(&format!("link del {device}"))?;
    }
    for call in &calls {
        call.run(node)?.ok().context("DEL before the agent is back")?;
    }
    node.start_agent()?;
    for call in &calls {
        call.run(node)?.ok().context("DEL after the agent is back")?;
    }
    fill(&cluster, node, "new").context("an address was lost")?;
    Ok(())
}

/// Runs `call`'s ADD as if the machine had been booted anew: with another boot id.
fn add_in_another_boot(node: &Node, netns: &Netns, name: &str) -> Result<()> {
    let boot = node.log_path("boot-id");
    fs::write(&boot, "00000000-0000-4000-8000-000000000000\n")?;
    let script = r#"mount --bind "$1" /proc/sys/kernel/random/boot_id && exec "$2""#;
    let mut command = node.command("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&boot).arg(binaries::find("beeline")?);
    command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", name).env("CNI_IFNAME", "eth0");
    command.env("CNI_NETNS", netns.path());
    process::finish(command, &node.network_config().to_string())?.ok()?;
    Ok(())
}

pub(crate) fn b_what_an_earlier_boot_left_on_a_disk_is_forgotten() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).pod_prefix(29).start()?;
    let node = cluster.node(1)?;
    // As if the runtime folder were on a disk: it says that five pods hold all addresses.
    fill(&cluster, node, "old")?.into_iter().for_each(Pod::abandon);
    // The kernel takes a namespace's devices away in its own time; after a real reboot there are none.
    wait::until("the old pods' ports to go", Duration::from_mins(2), || {
        Ok(!node.exec("ip -o link show type veth")?.contains(": bl"))
    })?;
    let mut kept = Vec::new();
    for n in 0..5 {
        let netns = Netns::create(&format!("{}new{n}", cluster.prefix()))?;
        add_in_another_boot(node, &netns, &format!("new{n}")).with_context(|| format!("pod {n} of 5"))?;
        kept.push(netns);
    }
    for folder in ["attachments", "ipam"] {
        let entries = fs::read_dir(node.runtime_dir().join(folder))?;
        let boots = entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count();
        ensure!(boots == 1, "{folder} has {boots} boots' folders");
    }
    Ok(())
}

pub(crate) fn b_what_an_older_beeline_left_is_read_or_refused() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).pod_prefix(29).start()?;
    let node = cluster.node(1)?;
    let pods = fill(&cluster, node, "old")?;
    // An older release kept no records: its attachments are known by their leases and ports.
    fs::remove_dir_all(node.runtime_dir().join("attachments"))?;
    let (code, message) = pods[0].call("ADD").run(node)?.failure()?;
    ensure!(code == 104, "a repeated ADD: code {code}: {message}");
    pods[0].call("CHECK").run(node)?.ok()?;
    for pod in &pods {
        pod.call("DEL").run(node)?.ok()?;
    }
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    let path = netns.path().to_string_lossy().into_owned();
    // node.json of another layout is not guessed at; DEL does not need it. A living agent would write it again.
    node.kill_agent()?;
    let file = node.runtime_dir().join("node.json");
    let text = fs::read_to_string(&file)?;
    let mut json: serde_json::Value = serde_json::from_str(&text)?;
    json["abiVersion"] = 0.into();
    fs::write(&file, json.to_string())?;
    let (code, message) = Call::new(node, "ADD", "c", &path).run(node)?.failure()?;
    ensure!(code == 103 && message.contains("programs of one release"), "code {code}: {message}");
    Call::new(node, "DEL", "c", &path).run(node)?.ok()?;
    fs::write(&file, text)?;
    Call::new(node, "ADD", "c", &path).run(node)?.ok()?;
    Ok(())
}
