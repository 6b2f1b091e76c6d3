//! What the demo found out. Its JSON keys are an interface: they are added to, never renamed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::counters::HostStack;

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facts {
    pub(super) nodes: Vec<Place>,
    pub(super) pods: Vec<Place>,
    pub(super) services: Vec<Service>,
    /// One request each: to the other node and to the same one, with DSR and without.
    pub(super) walks: Vec<Walk>,
    /// Many requests, with DSR and without, in turns.
    pub(super) loads: Vec<Load>,
}

/// A node or a pod.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) address: String,
    /// The node a pod is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
}

/// A VIP and its state, as `beelinectl policy` tells it from the live maps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) vip: String,
    #[serde(rename = "isDSR")]
    pub(super) is_dsr: bool,
    pub(super) backends: Vec<String>,
}

/// Where one request and its reply went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Walk {
    pub(super) dsr: bool,
    /// Who answered, and on which node.
    pub(super) server: String,
    pub(super) server_node: String,
    /// What was run, and what it printed.
    pub(super) command: String,
    pub(super) answer: String,
    /// The client as the server saw it.
    pub(super) client_seen: String,
    pub(super) steps: Vec<Step>,
    /// What each node's own IP stack saw of it, by the node's name.
    pub(super) host_stacks: BTreeMap<String, Stack>,
}

/// One step on the way, in order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    /// `request` or `reply`.
    pub(super) half: &'static str,
    pub(super) node: String,
    /// Where on the node.
    pub(super) at: String,
    /// What happened there.
    pub(super) what: String,
    /// The counter of `beelinectl hops` that says so; absent for steps in the host's stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hop: Option<&'static str>,
    pub(super) packets: u64,
}

/// Growth of a host's own counters.
#[derive(Debug, Default, Serialize)]
pub(super) struct Stack {
    /// IP packets its stack took in.
    pub(super) received: u64,
    /// IP packets it routed onwards.
    pub(super) forwarded: u64,
    /// Packets at all netfilter hooks together.
    pub(super) hooks: u64,
    /// Connections to the VIP that conntrack began to track.
    pub(super) conntrack: u64,
}

impl Stack {
    /// What of `seen` concerns `vip`.
    pub(super) fn of(seen: &HostStack, vip: &str) -> Self {
        let tracked = seen.conntrack.iter().filter(|entry| entry.contains(&format!("dst={vip} ")));
        Self {
            received: seen.received,
            forwarded: seen.forwarded,
            hooks: seen.hooks.iter().sum(),
            conntrack: tracked.count() as u64,
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        let Self { received, forwarded, hooks, conntrack } = self;
        received + forwarded + hooks + conntrack == 0
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.received += more.received;
        self.forwarded += more.forwarded;
        self.hooks += more.hooks;
        self.conntrack += more.conntrack;
    }
}

/// Many requests of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Load {
    pub(super) dsr: bool,
    pub(super) requests: u64,
    /// Requests by the server that answered.
    pub(super) servers: BTreeMap<String, u64>,
    /// On connections that are kept.
    pub(super) kept: Latency,
    /// With a new connection for each request.
    pub(super) new: Latency,
    pub(super) host_stacks: BTreeMap<String, Stack>,
}

/// Latencies of requests, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Latency {
    pub(super) p50_micros: u64,
    pub(super) p99_micros: u64,
}
