//! One request, followed: which counters of which node moved, in the order a packet passes them.

use std::{collections::BTreeMap, net::SocketAddr, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use super::{
    facts::{Stack, Step, Walk},
    stage::{self, Stage},
};
use crate::{Node, Pod, counters::HostStack, ctl::Counts, echo::Answer};

/// The last packets of a connection may still be on their way when its client ends.
const SETTLE: Duration = Duration::from_millis(50);
/// Both backends are equally likely: that one is missed so often in a row does not happen.
const ATTEMPTS: usize = 60;

/// Which request is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// With DSR, to the server on the other node.
    DirectFar,
    /// With DSR, to the server on the client's node.
    DirectNear,
    /// Without DSR, to the server on the other node.
    ByHostFar,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::DirectFar, Self::DirectNear, Self::ByHostFar];

    const fn vip(self) -> SocketAddr {
        match self {
            Self::DirectFar | Self::DirectNear => stage::DIRECT,
            Self::ByHostFar => stage::BY_HOST,
        }
    }

    fn server(self, stage: &Stage) -> &Pod {
        let [near, far] = &stage.web;
        if self == Self::DirectNear { near } else { far }
    }

    const fn legs(self) -> &'static [Leg] {
        match self {
            Self::DirectFar => DIRECT_FAR,
            Self::DirectNear => DIRECT_NEAR,
            Self::ByHostFar => BY_HOST_FAR,
        }
    }
}

/// Asks a VIP until the server answers that lies on `way`, and tells where that request and its reply went.
pub(super) fn follow(stage: &Stage, way: Way) -> Result<Walk> {
    let (vip, server) = (way.vip(), way.server(stage));
    let command = format!("curl --silent --max-time 5 http://{vip}/");
    for _ in 0..ATTEMPTS {
        let before = Moment::now(stage, vip)?;
        let answer = stage.client.exec(&command)?;
        let seen: Answer =
            serde_json::from_str(&answer).context("curl printed no answer of an echo server")?;
        if seen.server != server.name() {
            continue;
        }
        thread::sleep(SETTLE);
        let moved = Moment::now(stage, vip)?.since(&before);
        let steps = steps(way.legs(), &moved, stage.cluster.nodes(), server)?;
        return Ok(Walk {
            dsr: way != Way::ByHostFar,
            server: server.name().to_owned(),
            server_node: server.node().name().to_owned(),
            command: format!("curl http://{vip}/"),
            answer: answer.trim().to_owned(),
            client_seen: seen.client.to_string(),
            steps,
            host_stacks: moved.stacks(stage, vip),
        });
    }
    bail!("{vip} was asked {ATTEMPTS} times, and {} never answered", server.name())
}

/// All counters of all nodes at one moment, or how much they grew.
struct Moment {
    hops: Vec<Counts>,
    stacks: Vec<HostStack>,
    /// Packets of the client's node that the service counts: requests and replies past the host, requests left to it.
    service: [u64; 3],
}

impl Moment {
    fn now(stage: &Stage, vip: SocketAddr) -> Result<Self> {
        let nodes = stage.cluster.nodes();
        let policies = stage.client.node().ctl_json("policy")?;
        let policies = policies["policies"].as_array().context("no policies")?;
        let ours = policies.iter().find(|policy| policy["destinationIp"] == vip.ip().to_string());
        let measured = &ours.context("no policy for the VIP")?["measured"];
        let service = ["directPackets", "directReplies", "viaHostPackets"];
        Ok(Self {
            hops: nodes.iter().map(Node::hops).collect::<Result<_>>()?,
            stacks: nodes.iter().map(|node| node.host_stack()).collect::<Result<_>>()?,
            service: service.map(|key| measured[key].as_u64().unwrap_or(0)),
        })
    }

    fn since(&self, before: &Self) -> Self {
        let mut service = self.service;
        for (count, before) in service.iter_mut().zip(before.service) {
            *count -= before;
        }
        Self {
            hops: self.hops.iter().zip(&before.hops).map(|(after, before)| after.since(before)).collect(),
            stacks: self
                .stacks
                .iter()
                .zip(&before.stacks)
                .map(|(after, before)| after.since(before))
                .collect(),
            service,
        }
    }

    fn stacks(&self, stage: &Stage, vip: SocketAddr) -> BTreeMap<String, Stack> {
        let names = stage.cluster.nodes().iter().map(|node| node.name().to_owned());
        names.zip(self.stacks.iter().map(|seen| Stack::of(seen, &vip.ip().to_string()))).collect()
    }
}

/// The client's node and the other one, as indices.
const NEAR: usize = 0;
const FAR: usize = 1;

/// What tells how many packets took a leg.
#[derive(Clone, Copy)]
enum Counter {
    /// A hop that only this leg's packets take.
    Hop(&'static str),
    /// A hop that both halves take: the service's own counters tell requests from replies.
    Shared(&'static str),
    /// The host's stack, which `beelinectl` does not count: as many as the hop before brought there.
    Stack(&'static str),
}

/// One leg of the way: half, node, place, what happens, what counts it. `{pod}` and `{dip}` are filled in.
type Leg = (&'static str, usize, &'static str, &'static str, Counter);

#[rustfmt::skip]
const DIRECT_FAR: &[Leg] = &[
    ("request", NEAR, "client's port", "VIP becomes {dip}; into VXLAN", Counter::Hop("port_to_overlay")),
    ("request", FAR, "uplink", "out of VXLAN; into {pod}", Counter::Hop("uplink_to_port")),
    ("reply", FAR, "{pod}'s port", "into VXLAN", Counter::Hop("port_to_overlay")),
    ("reply", NEAR, "uplink", "out of VXLAN; source becomes VIP; into client", Counter::Hop("uplink_to_port")),
];

#[rustfmt::skip]
const DIRECT_NEAR: &[Leg] = &[
    ("request", NEAR, "client's port", "VIP becomes {dip}; into {pod}", Counter::Shared("port_to_port")),
    ("reply", NEAR, "{pod}'s port", "source becomes VIP; into client", Counter::Shared("port_to_port")),
];

#[rustfmt::skip]
const BY_HOST_FAR: &[Leg] = &[
    ("request", NEAR, "client's port", "left to the host", Counter::Hop("port_to_host")),
    ("request", NEAR, "host stack", "netfilter: VIP becomes {dip}; routed", Counter::Stack("port_to_host")),
    ("request", NEAR, "host's port", "into VXLAN", Counter::Hop("port_to_overlay")),
    ("request", FAR, "uplink", "out of VXLAN; into {pod}", Counter::Hop("uplink_to_port")),
    ("reply", FAR, "{pod}'s port", "into VXLAN", Counter::Hop("port_to_overlay")),
    ("reply", NEAR, "uplink", "out of VXLAN; up to the host", Counter::Hop("uplink_to_host")),
    ("reply", NEAR, "host stack", "conntrack: source becomes VIP; routed", Counter::Stack("uplink_to_host")),
    ("reply", NEAR, "host's port", "into client", Counter::Hop("port_to_port")),
];

fn steps(legs: &[Leg], moved: &Moment, nodes: &[Node], server: &Pod) -> Result<Vec<Step>> {
    let dip = server.address().to_string();
    legs.iter()
        .map(|&(half, node, at, what, counter)| {
            let fill = |text: &str| text.replace("{pod}", server.name()).replace("{dip}", &dip);
            let (hop, packets) = match counter {
                Counter::Hop(hop) => (Some(hop), moved.hops[node].of(hop)),
                Counter::Shared(hop) => (Some(hop), moved.service[usize::from(half == "reply")]),
                Counter::Stack(hop) => (None, moved.hops[node].of(hop)),
            };
            let node = nodes[node].name().to_owned();
            ensure!(packets > 0, "no packet of the {half} was counted at the {at} of {node}");
            Ok(Step { half, node, at: fill(at), what: fill(what), hop, packets })
        })
        .collect()
}
