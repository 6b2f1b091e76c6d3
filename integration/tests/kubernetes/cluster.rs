//! The cluster from outside: kubectl, its nodes' file systems, and the network namespaces of its pods.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use integration::{Netns, process::finish};
use nix::ifaddrs::getifaddrs;
use serde_json::Value;

/// Where the agents run.
pub(crate) const NAMESPACE: &str = "beeline-system";
/// How long the cluster may take for anything: a busy machine starts ten pods in a minute.
pub(crate) const LIMIT: Duration = Duration::from_secs(170);

/// Runs `hack/kind` with these arguments.
pub(crate) fn kind(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(repository().join("hack/kind"));
    command.args(arguments);
    finish(command, input)?.ok()
}

/// kubectl with a command line whose words are split at spaces.
pub(crate) fn kubectl(line: &str) -> Result<String> {
    let words: Vec<_> = std::iter::once("kubectl").chain(line.split_whitespace()).collect();
    kind(&words, "")
}

/// kubectl's answer as JSON.
pub(crate) fn get(line: &str) -> Result<Value> {
    Ok(serde_json::from_str(&kubectl(&format!("get -o json {line}"))?)?)
}

/// Applies a manifest (YAML).
pub(crate) fn apply(manifest: &str) -> Result<()> {
    kind(&["kubectl", "apply", "-f", "-"], manifest).map(drop)
}

/// Applies an overlay of our manifests, and waits until its agents run.
pub(crate) fn install(overlay: &str) -> Result<()> {
    let folder = repository().join("manifests/kubernetes/overlays").join(overlay);
    kubectl(&format!("apply -k {}", folder.display()))?;
    rolled_out(NAMESPACE, "daemonset/beeline")
}

/// Waits for a rollout, such as `deployment/echo`.
pub(crate) fn rolled_out(namespace: &str, what: &str) -> Result<()> {
    kubectl(&format!("-n {namespace} rollout status {what} --timeout={}s", LIMIT.as_secs())).map(drop)
}

/// Asks four times a second until it is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !so()? {
        ensure!(start.elapsed() < LIMIT, "waited {} s for {what}", LIMIT.as_secs());
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// A claim that nothing broke under load holds only if there was load: a thousand requests a second.
pub(crate) fn ensure_rate(requests: u64, span: Duration) -> Result<()> {
    let rate = u128::from(requests) * 1_000 / span.as_millis().max(1);
    eprintln!("{requests} requests, {rate} a second");
    ensure!(rate >= 1_000, "only {rate} requests a second");
    Ok(())
}

/// The nodes' names, the control plane first.
pub(crate) fn nodes() -> Result<Vec<String>> {
    let mut names = names_of(&get("nodes")?);
    names.sort_by_key(|name| (!name.ends_with("control-plane"), name.clone()));
    Ok(names)
}

/// The names of a list's objects.
pub(crate) fn names_of(list: &Value) -> Vec<String> {
    items(list).filter_map(|item| item["metadata"]["name"].as_str()).map(str::to_owned).collect()
}

/// The objects of a list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// Runs a command line on a node.
pub(crate) fn on_node(node: &str, line: &str) -> Result<String> {
    let words: Vec<_> = ["exec", node].into_iter().chain(line.split_whitespace()).collect();
    kind(&words, "")
}

/// A node's root folder, as this process reaches it.
pub(crate) fn root_of(node: &str) -> Result<PathBuf> {
    let root = kind(&["root", node], "")?;
    Ok(PathBuf::from(root.trim()))
}

/// The network namespace on `node` in which somebody has `address`.
pub(crate) fn netns_of(node: &str, address: &str) -> Result<Netns> {
    let folder = root_of(node)?.join("run/netns");
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        // Namespaces come and go meanwhile.
        let Ok(netns) = Netns::open(&entry?.path()) else { continue };
        if netns.run(has_address(address)).unwrap_or(false) {
            return Ok(netns);
        }
    }
    bail!("no network namespace on {node} has {address}")
}

fn has_address(address: &str) -> impl FnOnce() -> bool + Send + '_ {
    move || {
        let storage = |found: nix::ifaddrs::InterfaceAddress| found.address;
        getifaddrs().is_ok_and(|mut all| {
            all.any(|one| {
                storage(one)
                    .and_then(|one| one.as_sockaddr_in().map(|one| one.ip().to_string() == address))
                    .unwrap_or(false)
            })
        })
    }
}

/// The ends of the agents' logs and what they dropped, for a test that failed.
pub(crate) fn agents_state() -> String {
    let logs = kubectl(&format!(
        "-n {NAMESPACE} logs -l app.kubernetes.io/name=beeline -c beelined --prefix --tail=15"
    ));
    let drops =
        agents().and_then(|agents| agents.iter().map(|agent| drops(agent)).collect::<Result<String>>());
    let or_why = |text: Result<String>| text.unwrap_or_else(|e| format!("not known: {e:#}\n"));
    format!("{}{}", or_why(drops), or_why(logs))
}

fn agents() -> Result<Vec<String>> {
    Ok(names_of(&get(&format!("-n {NAMESPACE} pods -l app.kubernetes.io/name=beeline"))?))
}

/// A line of the reasons why `agent`'s node dropped packets.
fn drops(agent: &str) -> Result<String> {
    let line = format!("-n {NAMESPACE} exec {agent} -c beelined -- beelinectl drops --output json");
    let all: Value = serde_json::from_str(&kubectl(&line)?)?;
    let some = all["drops"].as_array().into_iter().flatten().filter(|drop| drop["packets"] != 0);
    let some: Vec<_> = some.map(|drop| format!("{} {}", drop["reason"], drop["packets"])).collect();
    Ok(format!("{agent} dropped: {}\n", some.join(", ")))
}

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    let package =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_owned)
}
