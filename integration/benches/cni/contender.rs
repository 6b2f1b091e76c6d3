//! Plugins that are measured, each with a node and pods of its own, called as libcni calls them: a process for each call,
//! the call in its environment, the configuration on its standard input.

use std::{
    fs,
    io::Write,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns, binaries, callers};
use serde_json::{Value, json};

/// Pods of one burst.
pub(crate) const PODS: usize = 100;

/// A plugin on a node that it has for itself.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    node: Netns,
    plugin: PathBuf,
    config: Value,
    /// Namespaces for pods, made beforehand: their making is not the plugins' work.
    pods: Vec<Netns>,
}

/// One of the two calls that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Add,
    Del,
}

impl Contender {
    /// Beeline on the cluster's first node.
    pub(crate) fn beeline(cluster: &Cluster) -> Result<Self> {
        let node = cluster.node(1)?;
        Self::new("beeline", cluster, (**node).clone(), binaries::find("beeline")?, node.network_config())
    }

    /// bridge and host-local on a machine of the same underlay. They masquerade nothing, for Beeline's plugin does not
    /// either: its agent does it for the whole node.
    pub(crate) fn bridge(cluster: &Cluster) -> Result<Self> {
        let node = cluster.outsider("bridge", Ipv4Addr::new(192, 168, 77, 200))?;
        let dir = cluster.node(1)?.runtime_dir().with_file_name("host-local");
        fs::create_dir_all(&dir)?;
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "bridge",
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": true,
            "ipam": {"type": "host-local", "subnet": "10.245.1.0/24", "dataDir": dir},
        });
        Self::new("bridge + host-local", cluster, node, callers::cni()?.join("bridge"), config)
    }

    fn new(
        name: &'static str,
        cluster: &Cluster,
        node: Netns,
        plugin: PathBuf,
        config: Value,
    ) -> Result<Self> {
        let pod = |n| Netns::create(&format!("{}{}-pod{n}", cluster.prefix(), node.name()));
        let pods = (0..PODS).map(pod).collect::<Result<_>>()?;
        Ok(Self { name, node, plugin, config, pods })
    }

    /// Makes the calling thread one of the node's, from which plugins are called.
    pub(crate) fn enter(&self) -> Result<()> {
        self.node.enter()
    }

    /// Makes one call for pod `n`, and gives how long it took, from the start of the process to its end.
    pub(crate) fn call(&self, call: Call, n: usize) -> Result<Duration> {
        let command = match call {
            Call::Add => "ADD",
            Call::Del => "DEL",
        };
        let directory = self.plugin.parent().context("the plugin is nowhere")?;
        let mut process = Command::new(&self.plugin);
        process.env_clear().env("CNI_COMMAND", command).env("CNI_CONTAINERID", format!("{n:064x}"));
        process.env("CNI_NETNS", self.pods[n].path()).env("CNI_IFNAME", "eth0").env("CNI_PATH", directory);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = self.config.to_string();

        let start = Instant::now();
        let mut child = process.spawn().with_context(|| format!("cannot start {}", self.plugin.display()))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(input.as_bytes()).context("the plugin reads no input")?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let took = start.elapsed();

        ensure!(
            output.status.success(),
            "{command} of {} failed: {}{}",
            self.name,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(took)
    }
}
