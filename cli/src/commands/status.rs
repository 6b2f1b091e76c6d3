//! `beelinectl status`: whether this node works, and what is wrong if it does not.
//!
//! The agent's own words are in its status file; that packets can pass is told from the maps, agent or not. A node is
//! ready only if nobody need do anything about it.

use std::{fs, path::Path, time::SystemTime};

use beeline_report::{Report, Table, count, span};
use lb_dataplane::{
    AttachMode, JsonFileError, NodeFile, StatusFile,
    status_file::{Check, Source, State},
};
use serde::Serialize;

use crate::live::{Live, node_file};

const READY: &str = "ready";

/// How this node does.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// `ready`, `degraded` or `starting`.
    state: &'static str,
    node: String,
    agent: Agent,
    dataplane: Dataplane,
    network: Option<Network>,
    /// What is wrong now, with cause and cure.
    last_error: Option<Trouble>,
    checks: Vec<Check>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Agent {
    running: bool,
    pid: Option<u32>,
    version: Option<String>,
    /// Time since it started, if it runs.
    up_seconds: Option<u64>,
    source: Option<Source>,
    /// How many configurations it has made real.
    generation: Option<u64>,
    /// Time since the last of them reached the kernel.
    applied_seconds_ago: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    vni: u32,
    uplink: String,
    pod_cidrs: Vec<String>,
    gateways: Vec<String>,
    mtu: u32,
}

/// What the live maps hold.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Dataplane {
    /// Whether the maps are there and filled: packets pass.
    loaded: bool,
    /// Why the maps cannot be read.
    error: Option<String>,
    vtep: Option<String>,
    vxlan_port: Option<u16>,
    attach: Option<String>,
    /// The uplink, if no program is on it.
    not_attached: Option<String>,
    endpoints: usize,
    services: usize,
    dsr_services: usize,
    peers: usize,
    routes: usize,
    dropped_packets: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trouble {
    message: String,
    for_seconds: u64,
}

/// Reads the agent's files in `dir`, and the maps.
pub(crate) fn report(dir: &Path) -> anyhow::Result<Status> {
    let file = match StatusFile::read(dir) {
        Ok(file) => Some(file),
        Err(JsonFileError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    // An agent that could not set the node up has left its word; without that either, there is nothing to tell.
    let (node, dataplane) = if file.is_some() && !NodeFile::path(dir).exists() {
        (None, Dataplane::default())
    } else {
        (Some(node_file(dir)?), read_maps(dir, file.as_ref()))
    };
    Ok(Status::new(file, node, dataplane, SystemTime::now(), is_beelined))
}

fn read_maps(dir: &Path, file: Option<&StatusFile>) -> Dataplane {
    let read = || -> anyhow::Result<Dataplane> {
        let Live { node, view } = Live::open(dir)?;
        let (live, routes) = (view.node()?, view.routes()?);
        let mut vteps: Vec<_> = routes.iter().map(|route| route.vtep).collect();
        vteps.sort_unstable();
        vteps.dedup();
        // The agent has counted them; to count anew takes all that the maps say of services.
        let dsr_services = match file.filter(|file| file.generation > 0) {
            Some(file) => file.counts.dsr_services,
            None => view.services()?.iter().filter(|service| service.dsr).count(),
        };
        Ok(Dataplane {
            loaded: live.is_some(),
            error: None,
            vtep: live.as_ref().map(|live| live.vtep.to_string()),
            vxlan_port: live.map(|live| live.vxlan_port),
            not_attached: lacks_program(&node).then(|| node.uplink.clone()),
            attach: serde_json::to_value(node.attach)?.as_str().map(str::to_owned),
            endpoints: view.endpoints()?.iter().filter(|endpoint| !endpoint.host).count(),
            services: view.service_names()?.len(),
            dsr_services,
            peers: vteps.len(),
            routes: routes.len(),
            dropped_packets: view.drops()?.iter().map(|(_, packets)| packets).sum(),
        })
    };
    read().unwrap_or_else(|error| Dataplane { error: Some(format!("{error:#}")), ..Dataplane::default() })
}

/// Whether the link to the uplink's program is gone. Filters have none: of them only the agent tells.
fn lacks_program(node: &NodeFile) -> bool {
    node.attach == AttachMode::Tcx && !node.pins().link(&node.uplink).exists()
}

/// Whether process `pid` is an agent, and not somebody who got its number after it.
fn is_beelined(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "beelined")
}

impl Status {
    fn new(
        file: Option<StatusFile>,
        node: Option<NodeFile>,
        dataplane: Dataplane,
        now: SystemTime,
        is_running: impl Fn(u32) -> bool,
    ) -> Self {
        let since = |then: SystemTime| now.duration_since(then).unwrap_or_default().as_secs();
        let running = file.as_ref().is_some_and(|file| is_running(file.pid));
        let complaint =
            file.as_ref().is_some_and(|file| file.state == State::Degraded || file.last_error.is_some());
        let state = if dataplane.error.is_some() {
            "degraded"
        } else if !dataplane.loaded {
            "starting"
        } else if complaint || !running || dataplane.not_attached.is_some() {
            "degraded"
        } else {
            READY
        };
        let name = node.as_ref().map(|node| node.node.clone());
        let network = node.map(|node| Network {
            vni: node.vni.get(),
            uplink: node.uplink,
            pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
            gateways: node.gateways.iter().map(ToString::to_string).collect(),
            mtu: node.mtu,
        });
        let agent = Agent {
            running,
            pid: file.as_ref().map(|file| file.pid),
            version: file.as_ref().map(|file| file.version.clone()),
            up_seconds: file.as_ref().filter(|_| running).map(|file| since(file.started_at)),
            source: file.as_ref().map(|file| file.source.clone()),
            generation: file.as_ref().map(|file| file.generation),
            applied_seconds_ago: file.as_ref().and_then(|file| file.last_applied).map(since),
        };
        Self {
            state,
            node: name.or_else(|| file.as_ref()?.node.clone()).unwrap_or_else(|| "unknown".to_owned()),
            last_error: file.as_ref().and_then(|file| file.last_error.as_ref()).map(|trouble| Trouble {
                message: trouble.message.clone(),
                for_seconds: since(trouble.since),
            }),
            checks: file.map(|file| file.preflight).unwrap_or_default(),
            agent,
            dataplane,
            network,
        }
    }
}

impl Status {
    /// Whether nobody need do anything about this node.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == READY
    }
}

impl Report for Status {
    fn text(&self) -> String {
        let mut lines =
            vec![("node", format!("{}: {}", self.node, self.state)), ("agent", self.agent.text())];
        match &self.agent.source {
            Some(Source::File { path }) => {
                lines.push(("source", self.agent.applied(&path.display().to_string())));
            }
            Some(Source::Kubernetes { api_server }) => {
                lines.push(("source", self.agent.applied(&format!("the cluster at {api_server}"))));
            }
            None => {}
        }
        lines.extend(self.network.as_ref().map(|network| ("network", network.text())));
        lines.push(("dataplane", self.dataplane.text()));
        lines.extend(self.dataplane.not_attached.as_ref().map(|uplink| {
            let text =
                format!("no program is on {uplink}, nothing comes in; a running beelined puts it back");
            ("uplink", text)
        }));
        if let Some(trouble) = &self.last_error {
            let since = span(std::time::Duration::from_secs(trouble.for_seconds));
            lines.push(("error", format!("{} (for {since})", trouble.message)));
        }
        for check in self.checks.iter().filter(|check| !check.ok) {
            lines.push(("check", format!("{}: {}", check.name, check.detail)));
        }
        let mut table = Table::new(["", ""]);
        for (name, text) in lines {
            table.row([name.to_owned(), text]);
        }
        // The titles are empty: without their line.
        table.to_string().split_off(1)
    }
}

impl Agent {
    fn text(&self) -> String {
        let version = self.version.as_deref().unwrap_or_default();
        match (self.pid, self.up_seconds) {
            (Some(pid), Some(up)) => {
                let up = span(std::time::Duration::from_secs(up));
                format!("beelined {version} runs (pid {pid}, for {up})")
            }
            (Some(_), None) => {
                format!("beelined {version} does not run; traffic goes on, changes wait until it is back")
            }
            _ => "has left no status here; traffic goes on, changes wait until it is back".to_owned(),
        }
    }

    fn applied(&self, source: &str) -> String {
        match (self.generation, self.applied_seconds_ago) {
            (Some(generation), Some(ago)) if generation > 0 => {
                let ago = span(std::time::Duration::from_secs(ago));
                format!("{source}, applied {ago} ago (generation {generation})")
            }
            _ => format!("{source}, not applied yet"),
        }
    }
}

impl Network {
    fn text(&self) -> String {
        let Self { vni, uplink, mtu, .. } = self;
        let (cidrs, gateways) = (self.pod_cidrs.join(", "), self.gateways.join(", "));
        format!("VNI {vni} over {uplink}; pods in {cidrs}, gateway {gateways}, MTU {mtu}")
    }
}

impl Dataplane {
    fn text(&self) -> String {
        if let Some(error) = &self.error {
            return error.clone();
        }
        if !self.loaded {
            return "not set up yet".to_owned();
        }
        format!(
            "{}, {} ({} direct), {}, {} dropped{}",
            count(self.endpoints, "pod"),
            count(self.services, "service"),
            self.dsr_services,
            count(self.peers, "peer"),
            count(usize::try_from(self.dropped_packets).unwrap_or(usize::MAX), "packet"),
            self.attach.as_ref().map(|mode| format!(", attached by {mode}")).unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests;
