//! Services: pods behind a VIP, and what becomes of clients when those pods come, go, or are not ready.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use integration::load::{Connections, Report};

use crate::{
    clients::client,
    cluster::{NAMESPACE, apply, ensure_rate, get, items, kind, nodes, rolled_out, until},
    echo::{Echo, pods},
};

pub(crate) fn pods_are_ready_on_every_node() -> Result<()> {
    rolled_out(NAMESPACE, "daemonset/beeline")?;
    let agents = pods(NAMESPACE, "app.kubernetes.io/name=beeline")?;
    let nodes: BTreeSet<_> = nodes()?.into_iter().collect();
    ensure!(agents.iter().map(|pod| pod.node.clone()).collect::<BTreeSet<_>>() == nodes, "not on every node");
    for node in items(&get("nodes")?) {
        let conditions = node["status"]["conditions"].as_array().context("a node has no conditions")?;
        let is = |kind: &str| conditions.iter().find(|c| c["type"] == kind).map(|c| c["status"].clone());
        ensure!(is("Ready") == Some("True".into()), "{} is not ready", node["metadata"]["name"]);
        ensure!(
            is("NetworkUnavailable") == Some("False".into()),
            "{}: {conditions:?}",
            node["metadata"]["name"]
        );
    }
    let echo = Echo::start("ready", 6)?;
    let with_server: BTreeSet<_> = echo.servers()?.into_iter().map(|pod| pod.node).collect();
    ensure!(with_server == nodes, "servers are on {with_server:?} only");
    Ok(())
}

pub(crate) fn a_vip_leads_across_nodes_and_stays_on_one() -> Result<()> {
    let echo = Echo::start("vip", 3)?;
    let servers = echo.servers()?;
    for node in nodes()? {
        let client = client(&node)?;
        let report = client.load(echo.vip, 600, Connections::New)?;
        ensure!(report.failures.is_empty(), "from {node}: {:?}", report.failures.first());
        ensure!(
            report.translated == 0,
            "from {node}: {} saw another address than the client's",
            report.translated
        );
        // Each server, the one on this node too, gets its share.
        for server in &servers {
            let share = report.servers.get(&server.name).copied().unwrap_or_default();
            ensure!(share > 100, "from {node}: {} got {share} of 600", server.name);
        }
        let (answer, _) = client.ask_udp(echo.vip)?;
        ensure!(servers.iter().any(|server| server.name == answer.server), "{} answered", answer.server);
    }
    Ok(())
}

pub(crate) fn a_pod_that_is_not_ready_gets_nothing() -> Result<()> {
    const GATE: &str = "beeline.test/gate";
    let echo = Echo::start("gated", 1)?;
    // One more server of the same service, whose readiness is for us to say.
    let gated = format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: gated, namespace: gated, labels: {{app: echo}}}}
spec:
  readinessGates: [{{conditionType: {GATE}}}]
  terminationGracePeriodSeconds: 0
  containers:
    - {{name: echo, image: "localhost/beeline-echo:dev", imagePullPolicy: Never, args: [gated, "80"]}}
"#
    );
    apply(&gated)?;
    let client = client(&nodes()?[0])?;
    let answers = |name: &str| -> Result<u64> {
        let report = client.load(echo.vip, 100, Connections::New)?;
        ensure!(report.failures.is_empty(), "{:?}", report.failures.first());
        Ok(report.servers.get(name).copied().unwrap_or_default())
    };
    until("the pod to run", || Ok(get("-n gated pod gated")?["status"]["phase"] == "Running"))?;
    ensure!(answers("gated")? == 0, "it was asked before it was ready");
    for (ready, expected) in [("True", true), ("False", false), ("True", true)] {
        let patch = format!(r#"{{"status":{{"conditions":[{{"type":"{GATE}","status":"{ready}"}}]}}}}"#);
        kind(&["kubectl", "-n", "gated", "patch", "pod", "gated", "--subresource=status", "-p", &patch], "")?;
        until(&format!("the pod to be asked: {expected}"), || Ok((answers("gated")? > 0) == expected))?;
    }
    Ok(())
}

pub(crate) fn scaled_from_none_to_three_and_back() -> Result<()> {
    let echo = Echo::start("scaled", 0)?;
    let client = client(&nodes()?[1])?;
    ensure!(client.get(echo.vip).is_err(), "somebody answered, and nobody is there");
    for _ in 0..2 {
        echo.scale(3)?;
        until("all three to answer", || {
            let report = client.load(echo.vip, 100, Connections::New)?;
            Ok(report.failures.is_empty() && report.servers.len() == 3)
        })?;
        echo.scale(0)?;
        until("nobody to answer", || Ok(client.get(echo.vip).is_err()))?;
    }
    Ok(())
}

/// Clients that open connections all the time see no request fail while all ten servers are replaced.
pub(crate) fn a_rolling_update_of_ten_pods_fails_no_request() -> Result<()> {
    let echo = Echo::start("rolling", 10)?;
    let before: BTreeSet<_> = echo.servers()?.into_iter().map(|pod| pod.name).collect();
    let client = client(&nodes()?[2])?;
    let (stop, start) = (AtomicBool::new(false), Instant::now());
    let load = || {
        let mut total = Report::default();
        while !stop.load(Ordering::Relaxed) {
            total.add(client.load(echo.vip, 2_000, Connections::Short)?);
            // What matters is what failed; millions of latencies are not kept.
            total.latencies.clear();
        }
        anyhow::Ok(total)
    };
    let report = thread::scope(|scope| -> Result<Report> {
        let loads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        thread::sleep(Duration::from_secs(1));
        let rolled = echo.roll();
        // Until the last server has ended.
        thread::sleep(Duration::from_secs(12));
        stop.store(true, Ordering::Relaxed);
        let mut total = Report::default();
        for load in loads {
            total.add(load.join().map_err(|_| anyhow!("the load panicked"))??);
        }
        rolled?;
        Ok(total)
    })?;
    let failed = report.failures.len();
    ensure!(failed == 0, "{failed} of {} failed, first: {}", report.answered, report.failures[0]);
    ensure_rate(report.answered, start.elapsed())?;
    let asked: BTreeSet<_> = report.servers.into_keys().collect();
    let after: BTreeSet<_> = echo.servers()?.into_iter().map(|pod| pod.name).collect();
    ensure!(before.is_disjoint(&after), "not all servers were replaced");
    ensure!(after.is_subset(&asked), "of {after:?} only some were asked: {asked:?}");
    Ok(())
}
