//! The demo's measurements, in order: what there is, single requests followed, many requests in turns.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result, ensure};

use super::{
    facts::{Facts, Latency, Load, Place, Service, Stack},
    stage::{BY_HOST, DIRECT, Stage},
    walk::{Way, follow},
};
use crate::{
    load::{Connections, Report},
    progress::Progress,
};

/// Rounds, in each of which both VIPs have their turn: whatever else this machine does meets both alike.
const ROUNDS: u32 = 20;
/// Requests of each kind a turn.
const REQUESTS: u32 = 250;

/// Measures everything.
pub(super) fn all(stage: &Stage, progress: &Progress) -> Result<Facts> {
    progress.step("Following single requests");
    let walks = Way::ALL.iter().map(|way| follow(stage, *way)).collect::<Result<_>>()?;
    let loads = loads(stage, progress)?;
    Ok(Facts {
        nodes: stage
            .cluster
            .nodes()
            .iter()
            .map(|node| place(node.name(), node.address().into(), None))
            .collect(),
        pods: [&stage.client, &stage.web[0], &stage.web[1]]
            .map(|pod| place(pod.name(), pod.address(), Some(pod.node().name())))
            .into(),
        services: services(stage)?,
        walks,
        loads,
    })
}

fn place(name: &str, address: std::net::IpAddr, node: Option<&str>) -> Place {
    Place { name: name.to_owned(), address: address.to_string(), node: node.map(str::to_owned) }
}

/// The TCP rules, as the live maps of the client's node have them.
fn services(stage: &Stage) -> Result<Vec<Service>> {
    let report = stage.client.node().ctl_json("policy")?;
    let policies = report["policies"].as_array().context("beelinectl told of no policies")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let backends = |policy: &serde_json::Value| {
        let ranges = policy["dipRanges"].as_array().cloned().unwrap_or_default();
        ranges.iter().map(|dip| format!("{}:{}", text(&dip["address"]), dip["port"])).collect()
    };
    let tcp = policies.iter().filter(|policy| policy["protocol"] == 6);
    Ok(tcp
        .map(|policy| Service {
            name: text(&policy["service"]),
            vip: format!("{}:{}", text(&policy["destinationIp"]), policy["destinationPort"]),
            is_dsr: policy["isDSR"] == true,
            backends: backends(policy),
        })
        .collect())
}

fn loads(stage: &Stage, progress: &Progress) -> Result<Vec<Load>> {
    let mut loads = [(true, DIRECT), (false, BY_HOST)].map(|(dsr, vip)| Turns::new(dsr, vip));
    progress.step("Asking each VIP 10,000 times, in turns");
    for round in 1..=ROUNDS {
        progress.part(&format!("Asking each VIP 10,000 times, in turns: round {round} of {ROUNDS}"));
        for turns in &mut loads {
            turns.take(stage)?;
        }
    }
    loads.into_iter().map(Turns::result).collect()
}

/// What one VIP's turns came to so far.
struct Turns {
    dsr: bool,
    vip: SocketAddr,
    kept: Report,
    new: Report,
    host_stacks: BTreeMap<String, Stack>,
}

impl Turns {
    fn new(dsr: bool, vip: SocketAddr) -> Self {
        Self { dsr, vip, kept: Report::default(), new: Report::default(), host_stacks: BTreeMap::new() }
    }

    fn take(&mut self, stage: &Stage) -> Result<()> {
        let nodes = stage.cluster.nodes();
        let stacks = || nodes.iter().map(|node| node.host_stack()).collect::<Result<Vec<_>>>();
        let before = stacks()?;
        // One client: its latency is the path's, not a queue's.
        self.kept.add(stage.client.load_from(1, self.vip, REQUESTS, Connections::Kept)?);
        self.new.add(stage.client.load_from(1, self.vip, REQUESTS, Connections::New)?);
        for ((node, after), before) in nodes.iter().zip(stacks()?).zip(&before) {
            let seen = Stack::of(&after.since(before), &self.vip.ip().to_string());
            self.host_stacks.entry(node.name().to_owned()).or_default().add(&seen);
        }
        Ok(())
    }

    fn result(self) -> Result<Load> {
        let Self { dsr, vip, kept, new, host_stacks } = self;
        let failures: Vec<_> = kept.failures.iter().chain(&new.failures).collect();
        ensure!(
            failures.is_empty(),
            "{} requests to {vip} failed, the first: {}",
            failures.len(),
            failures[0]
        );
        let (kept_latency, new_latency) = (latency(&kept), latency(&new));
        let mut all = kept;
        all.add(new);
        Ok(Load {
            dsr,
            requests: all.answered,
            servers: all.servers,
            kept: kept_latency,
            new: new_latency,
            host_stacks,
        })
    }
}

fn latency(report: &Report) -> Latency {
    let micros = |percent| u64::try_from(report.percentile(percent).as_micros()).unwrap_or(u64::MAX);
    Latency { p50_micros: micros(50), p99_micros: micros(99) }
}
