//! Bad input: a clear error with its code, and nothing left: no veth, no address, no map entry.

use std::{collections::BTreeSet, fs, net::IpAddr};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns, Node, Pod, binaries, cni::Call, process, traces::Traces};

/// A container that no pod of these tests is.
const CONTAINER: &str = "bad0";

/// Runs `call`, which must fail with `code` and every one of these words, and leave nothing on the node or in `netns`.
fn ensure_refused(node: &Node, netns: &Netns, call: &Call, code: u64, words: &[&str]) -> Result<()> {
    let before = (Traces::of(node)?, netns.exec("ip -o link show")?);
    let (found, message) = call.run(node)?.failure()?;
    ensure!(found == code, "code {found} in place of {code}: {message}");
    for word in words {
        ensure!(message.contains(word), "no `{word}` in: {message}");
    }
    let after = (Traces::of(node)?, netns.exec("ip -o link show")?);
    ensure!(before == after, "left behind: {after:?}, before {before:?}");
    Ok(())
}

/// Fails unless exactly `free` more pods find an address on `node`: what failed must not have kept any.
fn ensure_free(cluster: &Cluster, node: &Node, free: usize) -> Result<()> {
    let mut pods = Vec::new();
    for n in 0..free {
        let pod = cluster.pod(&format!("fill{n}")).on(node);
        pods.push(pod.with_context(|| format!("pod {n} of {free} found no address"))?);
    }
    let refused = cluster.pod("onemore").on(node).err().context("one pod too many found an address")?;
    ensure!(format!("{refused:#}").contains("code 100"), "{refused:#}");
    Ok(())
}

/// One node with five pod addresses (.2 to .6 of a /29), and a namespace for a pod.
fn small() -> Result<(Cluster, Netns)> {
    let cluster = Cluster::builder().nodes(1).pod_prefix(29).start()?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    Ok((cluster, netns))
}

fn add(node: &Node, netns: &Netns) -> Call {
    Call::new(node, "ADD", CONTAINER, &netns.path().to_string_lossy())
}

pub(crate) fn b_missing_environment_is_refused() -> Result<()> {
    let (cluster, netns) = small()?;
    let node = cluster.node(1)?;
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        ensure_refused(node, &netns, &add(node, &netns).without(name), 4, &[name])?;
    }
    for (name, value) in [
        ("CNI_COMMAND", "ATTACH"),
        ("CNI_CONTAINERID", "-not-an-id"),
        ("CNI_IFNAME", "far-too-long-for-a-device"),
        ("CNI_IFNAME", "a/b"),
    ] {
        ensure_refused(node, &netns, &add(node, &netns).with(name, value), 4, &[])?;
    }
    ensure_free(&cluster, node, 5)
}

pub(crate) fn b_bad_configuration_is_refused() -> Result<()> {
    let (cluster, netns) = small()?;
    let node = cluster.node(1)?;
    let config = node.network_config();
    let with = |key: &str, value: serde_json::Value| {
        let mut config = config.clone();
        config[key] = value;
        config.to_string()
    };
    for (input, code) in [
        ("{\"cniVersion\": \"1.0.0\",".to_owned(), 6),
        ("beeline".to_owned(), 6),
        (String::new(), 6),
        (with("cniVersion", "9.9.9".into()), 1),
    ] {
        ensure_refused(node, &netns, &add(node, &netns).input(&input), code, &[])?;
    }
    ensure_free(&cluster, node, 5)
}

pub(crate) fn b_netns_that_is_gone_is_refused() -> Result<()> {
    let (cluster, netns) = small()?;
    let node = cluster.node(1)?;
    let plain_file = node.log_path("not-a-netns");
    fs::write(&plain_file, "")?;
    for path in ["/run/netns/nowhere", &plain_file.to_string_lossy()] {
        let call = Call::new(node, "ADD", CONTAINER, path);
        ensure_refused(node, &netns, &call, 101, &[path])?;
    }
    ensure_free(&cluster, node, 5)
}

pub(crate) fn b_add_without_an_agent_is_refused() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).without_agents().start()?;
    let node = cluster.node(1)?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    let before = node.exec("ip -o link show")?;
    let (code, message) = add(node, &netns).run(node)?.failure()?;
    ensure!(code == 11 && message.contains("beelined"), "code {code}: {message}");
    ensure!(node.exec("ip -o link show")? == before);
    ensure!(fs::read_dir(node.runtime_dir())?.count() == 0, "something was written");
    // And beelinectl says so as well.
    let said = node.try_ctl("status")?;
    ensure!(!said.status.success() && said.stderr.contains("beelined"), "{}", said.stderr);
    Ok(())
}

pub(crate) fn b_exhausted_pool_is_refused() -> Result<()> {
    let (cluster, netns) = small()?;
    let node = cluster.node(1)?;
    let mut pods = Vec::new();
    for n in 0..5 {
        pods.push(cluster.pod(&format!("pod{n}")).on(node)?);
    }
    let addresses: BTreeSet<_> = pods.iter().map(Pod::address).collect();
    let expected = [2, 3, 4, 5, 6].map(|last| IpAddr::from([10, 244, 1, last]));
    ensure!(addresses == BTreeSet::from(expected), "{addresses:?}");
    ensure_refused(node, &netns, &add(node, &netns), 100, &["10.244.1.0/29"])?;
    // Room is made by DEL, and DEL may be repeated.
    let gone = pods.pop().context("no pod")?;
    for _ in 0..2 {
        gone.call("DEL").run(node)?.ok()?;
    }
    add(node, &netns).run(node)?.ok()?;
    Ok(())
}

pub(crate) fn b_repeated_add_is_refused_without_damage() -> Result<()> {
    let (cluster, _netns) = small()?;
    let node = cluster.node(1)?;
    let pod = cluster.pod("twice").on(node)?;
    let before = Traces::of(node)?;
    let (code, message) = pod.call("ADD").run(node)?.failure()?;
    ensure!(code == 104, "code {code}: {message}");
    ensure!(Traces::of(node)? == before);
    // The first attachment still works.
    pod.call("CHECK").run(node)?.ok()?;
    ensure!(node.ping(pod.address(), 56)? == integration::ping::Ping::Answered);
    Ok(())
}

pub(crate) fn b_without_root_is_refused() -> Result<()> {
    let (cluster, netns) = small()?;
    let node = cluster.node(1)?;
    ensure_refused(node, &netns, &add(node, &netns).user(65_534), 102, &["root"])?;
    ensure_free(&cluster, node, 5)
}

pub(crate) fn b_pins_that_are_gone_are_told() -> Result<()> {
    let (cluster, netns) = small()?;
    let node = cluster.node(1)?;
    node.kill_agent()?;
    let before = node.exec("ip -o link show")?;
    fs::remove_file(node.bpffs().join("programs/from_pod"))?;
    let (code, message) = add(node, &netns).run(node)?.failure()?;
    ensure!(code == 103 && message.contains("from_pod"), "code {code}: {message}");
    ensure!(node.exec("ip -o link show")? == before);
    // The agent heals it, and no address was lost.
    node.start_agent()?;
    ensure_free(&cluster, node, 5)
}

pub(crate) fn b_del_succeeds_whatever_is_gone() -> Result<()> {
    let (cluster, netns) = small()?;
    let node = cluster.node(1)?;
    // Never added; and added, then the namespace gone.
    add(node, &netns).run(node)?.ok()?;
    let path = netns.path().to_string_lossy().into_owned();
    drop(netns);
    Call::new(node, "DEL", CONTAINER, &path).run(node)?.ok()?;
    Call::new(node, "DEL", CONTAINER, "").without("CNI_NETNS").run(node)?.ok()?;
    Call::new(node, "DEL", "never-added", &path).run(node)?.ok()?;
    ensure_free(&cluster, node, 5)
}

pub(crate) fn an_agent_with_a_bad_file_says_where() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).without_agents().start()?;
    let node = cluster.node(1)?;
    let good = cluster.config().yaml(node.name());
    for (text, words) in [
        (good.replace("vni: 7", "vni: seventeen"), vec!["line 2", "vni"]),
        (good.replace("node: node1", "node: node8"), vec!["node8"]),
        (good.replace("address: 192.168.77.1,", "adress: 192.168.77.1,"), vec!["line 5", "adress"]),
        (String::new(), vec!["empty"]),
    ] {
        node.write_config(&text)?;
        let mut command = node.command(binaries::find("beelined")?);
        command.arg("check").arg("--config").arg(node.config_path());
        let checked = process::finish(command, "")?;
        ensure!(checked.status.code() == Some(1), "{checked:?}");
        for word in words {
            ensure!(checked.stderr.contains(word), "no `{word}` in {}", checked.stderr);
        }
    }
    node.write_config(&good)?;
    let mut command = node.command(binaries::find("beelined")?);
    command.arg("check").arg("--config").arg(node.config_path());
    process::finish(command, "")?.ok()?;
    Ok(())
}

pub(crate) fn an_agent_that_lacks_something_says_what() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).without_agents().start()?;
    let node = cluster.node(1)?;
    let before = node.exec("ip -o link show")?;
    let run = |uid: u32, bpffs: &std::path::Path| {
        // It would go on for ever if it found nothing wrong.
        let mut command = node.command("timeout");
        command.arg("10").arg(binaries::find("beelined")?).args(["run", "--config"]).arg(node.config_path());
        command.arg("--runtime-dir").arg(node.runtime_dir()).arg("--bpffs").arg(bpffs);
        process::run_as(&mut command, uid);
        process::finish(command, "")
    };
    // A place that is no bpffs, and cannot be made one without hiding what is there.
    let occupied = node.log_path("something");
    fs::write(&occupied, "")?;
    let no_bpffs = run(0, &occupied.with_file_name("beeline"))?;
    ensure!(no_bpffs.status.code() == Some(1), "{no_bpffs:?}");
    ensure!(no_bpffs.stderr.contains("is not a bpffs"), "{}", no_bpffs.stderr);
    // Not root.
    let not_root = run(65_534, &node.bpffs())?;
    ensure!(not_root.status.code() == Some(1), "{not_root:?}");
    ensure!(not_root.stderr.contains("as root"), "{}", not_root.stderr);
    ensure!(node.exec("ip -o link show")? == before, "devices were left");
    ensure!(!node.runtime_dir().join("node.json").exists(), "node.json says that pods can be wired");
    Ok(())
}
