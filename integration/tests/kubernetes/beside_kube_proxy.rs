//! Beeline beside the real kube-proxy: each service is the one's or the other's.

use std::process::Command;

use anyhow::{Result, ensure};
use integration::{load::Connections, process::finish};

use crate::{
    clients::client,
    cluster::{install, kind, nodes, on_node, repository, until},
    echo::Echo,
};

/// A service without DSR goes through the client's host, whose conntrack then knows of it; with DSR it does not. The agent
/// asks the API server at its VIP, where kube-proxy answers.
pub(crate) fn a8_services_without_dsr_are_kube_proxys() -> Result<()> {
    let _beside = KubeProxy::start()?;
    let echo = Echo::start("beside", 3)?;
    let node = &nodes()?[1];
    let client = client(node)?;
    for dsr in [true, false, true] {
        annotate(&echo, dsr)?;
        let is_so = || -> Result<bool> {
            let ours = format!("-p tcp --orig-dst {}", echo.vip.ip());
            // It fails if there is none. Others' entries stay: the agent's own connection is in there.
            let _ = on_node(node, &format!("conntrack -D {ours}"));
            let report = client.load(echo.vip, 100, Connections::New)?;
            // Whoever is told later of the servers that are ready refuses until then.
            let is_served = report.failures.is_empty() && report.servers.len() == 3;
            let is_tracked = on_node(node, &format!("conntrack -L {ours}"))?.contains("dport=80");
            Ok(is_served && is_tracked != dsr)
        };
        until(&format!("all servers to answer, and the host to see it: {}", !dsr), is_so)?;
        let report = client.load(echo.vip, 600, Connections::New)?;
        ensure!(report.failures.is_empty(), "DSR {dsr}: {:?}", report.failures.first());
        ensure!(report.servers.len() == 3, "DSR {dsr}: only {:?} answered", report.servers);
    }
    Ok(())
}

fn annotate(echo: &Echo, dsr: bool) -> Result<()> {
    let annotation = format!("beeline/dsr={dsr}");
    kind(&["kubectl", "-n", echo.name, "annotate", "service", "echo", "--overwrite", &annotation], "")
        .map(drop)
}

/// kube-proxy on every node, and Beeline installed to be beside it; the cluster is put back as it was with this value.
struct KubeProxy;

impl KubeProxy {
    fn start() -> Result<Self> {
        let started = Self;
        reference("--kube-proxy")?;
        install("beside-kube-proxy")?;
        Ok(started)
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        if let Err(e) = install("kind").and_then(|()| reference("--no-kube-proxy")) {
            eprintln!("the cluster is not as it was: {e:#}");
        }
    }
}

fn reference(what: &str) -> Result<()> {
    let mut command = Command::new(repository().join("integration/kubernetes/reference"));
    command.arg(what);
    finish(command, "")?.ok().map(drop)
}
