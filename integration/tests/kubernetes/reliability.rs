//! Nothing depends on a living agent or API server: one is deleted, upgraded, or away for a minute, and clients see nothing.

use std::{
    fs,
    os::unix::fs::DirEntryExt,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use integration::traffic::{Outcome, Traffic};

use crate::{
    clients::client,
    cluster::{NAMESPACE, ensure_rate, kubectl, nodes, on_node, rolled_out, root_of, until},
    echo::{Echo, pods},
};

const AGENTS: &str = "app.kubernetes.io/name=beeline";
/// How long the API server is away.
const AWAY: Duration = Duration::from_mins(1);

pub(crate) fn a_deleted_agent_breaks_nothing() -> Result<()> {
    let echo = Echo::start("deleted", 3)?;
    let outcome = under_traffic(&echo, || {
        for agent in pods(NAMESPACE, AGENTS)? {
            kubectl(&format!("-n {NAMESPACE} delete pod {} --wait=true", agent.name))?;
            rolled_out(NAMESPACE, "daemonset/beeline")?;
        }
        Ok(())
    })?;
    ensure_perfect(&outcome)
}

pub(crate) fn an_upgrade_with_another_ebpf_object_breaks_nothing() -> Result<()> {
    let echo = Echo::start("upgraded", 3)?;
    let before = programs()?;
    let outcome = under_traffic(&echo, || roll_to("localhost/beeline:upgraded"))?;
    ensure_perfect(&outcome)?;
    let after = programs()?;
    ensure!(before.iter().all(|program| !after.contains(program)), "programs are the old ones: {after:?}");
    let outcome = under_traffic(&echo, || roll_to("localhost/beeline:dev"))?;
    ensure_perfect(&outcome)?;
    ensure!(after.iter().all(|program| !programs().is_ok_and(|now| now.contains(program))), "no way back");
    Ok(())
}

/// While it is away, an agent dies too, and starts with nobody to ask. When it is back, what changes is followed again.
pub(crate) fn a_minute_without_api_server_breaks_nothing() -> Result<()> {
    let echo = Echo::start("away", 3)?;
    let nodes = nodes()?;
    let outcome = under_traffic(&echo, || {
        on_node(&nodes[0], "mv /etc/kubernetes/manifests/kube-apiserver.yaml /kind/")?;
        until("the API server to end", || Ok(on_node(&nodes[0], "pgrep -f ^kube-apiserver").is_err()))?;
        on_node(&nodes[1], "pkill -KILL -x beelined")?;
        thread::sleep(AWAY);
        on_node(&nodes[0], "mv /kind/kube-apiserver.yaml /etc/kubernetes/manifests/")?;
        until("the API server to be back", || Ok(kubectl("get --raw /readyz").is_ok()))
    })?;
    eprintln!("it is back");
    ensure_perfect(&outcome)?;
    rolled_out(NAMESPACE, "daemonset/beeline")?;
    echo.scale(4)?;
    let client = client(&nodes[1])?;
    until("the new server to be asked", || {
        let report = client.load(echo.vip, 200, integration::load::Connections::New)?;
        Ok(report.servers.len() == 4)
    })
}

fn roll_to(image: &str) -> Result<()> {
    kubectl(&format!("-n {NAMESPACE} set image daemonset/beeline *={image}"))?;
    rolled_out(NAMESPACE, "daemonset/beeline")
}

/// Traffic from every node to the VIP: connections in use, new ones, datagrams.
fn under_traffic(echo: &Echo, work: impl FnOnce() -> Result<()>) -> Result<Outcome> {
    let clients = nodes()?.iter().map(|node| client(node)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let traffic: Vec<_> = clients.iter().map(|client| Traffic::start(client, echo.vip)).collect();
    thread::sleep(Duration::from_secs(1));
    let done = work();
    thread::sleep(Duration::from_secs(1));
    let mut total = Outcome::default();
    for one in traffic {
        total.add(one.stop()?);
    }
    done?;
    ensure_rate(total.asked + total.opened, start.elapsed())?;
    Ok(total)
}

fn ensure_perfect(outcome: &Outcome) -> Result<()> {
    ensure!(outcome.broken.is_empty(), "{} broke, first: {}", outcome.broken.len(), outcome.broken[0]);
    ensure!(outcome.lost() == 0, "{} of {} datagrams were lost", outcome.lost(), outcome.sent);
    ensure!(outcome.opened > 100 && outcome.sent > 1_000, "{outcome:?}");
    eprintln!("{} requests, {} new connections, {} datagrams", outcome.asked, outcome.opened, outcome.sent);
    Ok(())
}

/// Every pinned program of every node, by node, name and inode: another program is another inode.
fn programs() -> Result<Vec<(String, String, u64)>> {
    let mut found = Vec::new();
    for node in nodes()? {
        for entry in fs::read_dir(root_of(&node)?.join("sys/fs/bpf/beeline/programs"))? {
            let entry = entry?;
            found.push((node.clone(), entry.file_name().to_string_lossy().into_owned(), entry.ino()));
        }
    }
    ensure!(!found.is_empty(), "no node has programs");
    Ok(found)
}
