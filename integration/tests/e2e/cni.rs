//! The CNI as runtimes call it: many at once, killed in the middle, asked to check what they made.

use std::{collections::BTreeSet, net::IpAddr, path::Path, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use integration::{Attach, Cluster, Node, Pod, cni::Call, ping::Ping, process, traces::Traces, wait};

pub(crate) fn b_sixty_four_adds_at_once_give_distinct_addresses() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let before = Traces::of(node)?;
    let add = |n: usize| cluster.pod(&format!("pod{n}")).on(node);
    let pods: Result<Vec<Pod>> = thread::scope(|scope| {
        let adds: Vec<_> = (0..64).map(|n| scope.spawn(move || add(n))).collect();
        adds.into_iter().map(|add| add.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    });
    let pods = pods?;
    let addresses: BTreeSet<_> = pods.iter().map(Pod::address).collect();
    ensure!(addresses.len() == 64, "{} addresses for 64 pods", addresses.len());
    for pod in &pods {
        ensure!(node.ping(pod.address(), 56)? == Ping::Answered, "{} is not reached", pod.name());
    }
    thread::scope(|scope| {
        for pod in pods {
            scope.spawn(move || drop(pod));
        }
    });
    let after = Traces::of(node)?;
    ensure!(after == before, "left behind: {after:?}");
    Ok(())
}

pub(crate) fn b_sixty_four_adds_over_a_pool_that_was_exhausted() -> Result<()> {
    // 61 addresses: as many pods die without a DEL, and 64 others come at once.
    let cluster = Cluster::builder().nodes(1).pod_prefix(26).start()?;
    let node = cluster.node(1)?;
    for n in 0..61 {
        cluster.pod(&format!("dead{n}")).on(node)?.abandon();
    }
    wait::until("the dead pods' ports to go", Duration::from_mins(2), || {
        Ok(!node.exec("ip -o link show type veth")?.contains(": bl"))
    })?;
    let add = |n: usize| cluster.pod(&format!("pod{n}")).on(node);
    let pods: Result<Vec<Result<Pod>>> = thread::scope(|scope| {
        let adds: Vec<_> = (0..64).map(|n| scope.spawn(move || add(n))).collect();
        adds.into_iter().map(|add| add.join().map_err(|_| anyhow!("a thread panicked"))).collect()
    });
    let (pods, failed): (Vec<_>, Vec<_>) = pods?.into_iter().partition(Result::is_ok);
    let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
    let addresses: BTreeSet<_> = pods.iter().map(Pod::address).collect();
    ensure!(addresses.len() == 61, "{} addresses for {} pods", addresses.len(), pods.len());
    for error in failed.into_iter().filter_map(Result::err) {
        ensure!(format!("{error:#}").contains("code 100"), "{error:#}");
    }
    Ok(())
}

/// What CHECK must tell of, and what is done for it.
type Break = (&'static str, fn(&Pod, &Node) -> Result<()>);

pub(crate) fn b_check_finds_what_is_missing() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let breaks: [Break; 8] = [
        ("address", |pod, _| pod.ip("addr flush dev eth0")),
        ("route", |pod, _| pod.ip("route del default")),
        ("neighbour", |pod, _| pod.ip("neigh del 169.254.1.1 dev eth0")),
        ("eth0 is down", |pod, _| pod.ip("link set eth0 down")),
        ("no interface eth0", |pod, _| pod.ip("link del eth0")),
        ("is down", |pod, node| node.ip(&format!("link set {} down", port_of(pod, node)?))),
        ("endpoint entry", |pod, node| {
            // Another pod of the same address would overwrite it; so does a map that was emptied.
            let map = node.bpffs().join("maps/ENDPOINTS4");
            let key = endpoint_key(pod, &map)?;
            node.exec(&format!("bpftool map delete pinned {} key hex {key}", map.display()))?;
            Ok(())
        }),
        ("program", |pod, node| {
            node.exec(&format!("tc qdisc del dev {} clsact", port_of(pod, node)?)).map(drop)
        }),
    ];
    for (n, (what, damage)) in breaks.into_iter().enumerate() {
        let pod = cluster.pod(&format!("pod{n}")).on(node)?;
        pod.call("CHECK").run(node)?.ok()?;
        damage(&pod, node)?;
        let (code, message) =
            pod.call("CHECK").run(node)?.failure().with_context(|| format!("without {what}"))?;
        ensure!(code == 110 && message.contains(what), "without {what}: code {code}: {message}");
    }
    Ok(())
}

pub(crate) fn b_check_finds_a_missing_program_by_tcx() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).attach(Attach::Tcx).start()?;
    let node = cluster.node(1)?;
    let pod = cluster.pod("pod").on(node)?;
    node.detach(&port_of(&pod, node)?)?;
    let (code, message) = pod.call("CHECK").run(node)?.failure()?;
    ensure!(code == 110 && message.contains("program"), "code {code}: {message}");
    Ok(())
}

pub(crate) fn b_version_tells_what_is_spoken() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).without_agents().start()?;
    let node = cluster.node(1)?;
    let answer = Call::new(node, "VERSION", "", "").run(node)?.ok()?;
    let spoken = answer["supportedVersions"].as_array().context("no versions")?;
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        ensure!(spoken.iter().any(|v| v == version), "no {version} in {answer}");
    }
    Ok(())
}

/// The key of the pod's endpoint entry, as `bpftool` wants it: that which ends with the pod's address.
fn endpoint_key(pod: &Pod, map: &Path) -> Result<String> {
    let mut command = std::process::Command::new("bpftool");
    command.args(["-j", "map", "dump", "pinned"]).arg(map);
    let dump: serde_json::Value = serde_json::from_str(&process::finish(command, "")?.ok()?)?;
    let IpAddr::V4(address) = pod.address() else { anyhow::bail!("the pod has no IPv4 address") };
    let address: Vec<_> = address.octets().map(|byte| format!("0x{byte:02x}")).into();
    let keys = dump.as_array().into_iter().flatten().filter_map(|entry| entry["key"].as_array());
    let mut keys =
        keys.map(|key| key.iter().filter_map(|byte| byte.as_str().map(str::to_owned)).collect::<Vec<_>>());
    let key = keys.find(|key| key.windows(4).any(|part| part == address)).context("no endpoint entry")?;
    Ok(key.iter().map(|byte| byte.trim_start_matches("0x")).collect::<Vec<_>>().join(" "))
}

/// The host's end of a pod's veth pair.
fn port_of(pod: &Pod, node: &Node) -> Result<String> {
    let endpoints = node.ctl_json("endpoints")?;
    let mut endpoints = endpoints["endpoints"].as_array().into_iter().flatten();
    let ours = endpoints.find(|endpoint| endpoint["address"] == pod.address().to_string());
    Ok(ours.and_then(|endpoint| endpoint["port"].as_str()).context("no port")?.to_owned())
}
