//! Which endpoints a service's requests may go to from this node: kube-proxy's rules, for every source.
//!
//! A source says what a service is like as a [`Policy`] with its [`Claims`] and [`Candidate`]s; out come services as the
//! dataplane wants them, each of which has one set of backends: what is asked of one node's own address may have others
//! than what is asked of the VIP.
//!
//! The reference is Kubernetes' pkg/proxy: `CategorizeEndpoints` in topology.go, and `syncProxyRules` for what becomes of
//! requests that nobody may take. Clients are on this node here, so requests for external addresses, and for this
//! node's own, go to any endpoint of the cluster whatever the external policy is; kube-proxy calls it a short circuit.

mod choice;

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, sync::Arc, time::Duration};

use ipnet::IpNet;
use lb_dataplane::desired::{Affinity, Backend, Frontend, Protocol, Service, WithoutBackends};

use crate::model::NodePorts;

pub(crate) use self::choice::Place;

/// A name that many share: a node's or a zone's.
pub(crate) type Name = Arc<str>;

/// Where a service's requests may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Reach {
    /// Anywhere in the cluster.
    #[default]
    Cluster,
    /// On the node that was asked.
    Local,
}

/// How far along an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Condition {
    /// It takes requests.
    #[default]
    Ready,
    /// It takes requests still, and is about to end: asked only if nobody is ready.
    Ending,
    /// It takes no new connections (not yet, or no more); those it has go on.
    Unready,
}

/// Whom an endpoint is meant for, if it is not meant for all. Empty lists say nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Hints {
    /// Zones.
    pub(crate) zones: Box<[Name]>,
    /// Nodes.
    pub(crate) nodes: Box<[Name]>,
}

/// An endpoint, with the port behind the service's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Its port.
    pub(crate) port: NonZeroU16,
    /// How far along it is.
    pub(crate) condition: Condition,
    /// The node that it is on.
    pub(crate) node: Option<&'a str>,
    /// Whom it is meant for.
    pub(crate) hints: Option<&'a Hints>,
}

/// Where a service is found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Claims {
    /// At its own VIPs.
    pub(crate) internal: Vec<Frontend>,
    /// At external addresses.
    pub(crate) external: Vec<Frontend>,
    /// At load balancers' addresses.
    pub(crate) load_balancers: Vec<Frontend>,
    /// At nodes' addresses, with the node.
    pub(crate) nodes: Vec<(Name, Frontend)>,
}

/// What a service wants of its balancing.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Its name.
    pub(crate) name: String,
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// Who may take what is asked of its VIPs.
    pub(crate) internal: Reach,
    /// Who may take what is asked of nodes and external addresses.
    pub(crate) external: Reach,
    /// Who may ask at load balancers' addresses; each family is for itself, and without any, all of it may.
    pub(crate) source_ranges: Box<[IpNet]>,
    /// Whether a client stays with its backend.
    pub(crate) affinity: Affinity,
    /// Idle time after which a flow is forgotten.
    pub(crate) flow_ttl: Duration,
    /// False if it is left to the host.
    pub(crate) dsr: bool,
}

/// The services that `policy` comes to on the node at `here`. No name but theirs has an `@` in it.
pub(crate) fn services(
    policy: &Policy,
    claims: Claims,
    candidates: &mut Vec<Candidate<'_>>,
    here: &Place<'_>,
) -> Vec<Service> {
    choice::tidy(candidates, policy.protocol);
    let wide = choice::cluster_wide(candidates, here);
    let Claims { internal, external: mut shared, load_balancers, nodes } = claims;
    let load_balancers = LoadBalancers {
        source_ranges: if load_balancers.is_empty() { vec![] } else { source_ranges(policy, here) },
        frontends: load_balancers,
    };
    let mut elsewhere: BTreeMap<Name, Vec<Frontend>> = BTreeMap::new();
    let mut from_outside = vec![];
    for (node, frontend) in nodes {
        let is_here = *node == *here.node;
        if is_here {
            // For clients that the host hands over.
            let NodePorts { inside, outside } = NodePorts::like(frontend.vip);
            shared.push(Frontend { vip: inside, ..frontend });
            if policy.external == Reach::Local && choice::is_any_usable(&wide, frontend.vip) {
                from_outside.push(Frontend { vip: outside, ..frontend });
            }
        }
        let is_local = policy.external == Reach::Local && !is_here;
        // Without any endpoint anywhere, it is rejected there too.
        if is_local && choice::is_any_usable(&wide, frontend.vip) {
            elsewhere.entry(node).or_default().push(frontend);
        } else {
            shared.push(frontend);
        }
    }
    let mut made = vec![];
    match policy.internal {
        Reach::Cluster => made.push(load_balancers.join(service(policy, "", (internal, shared), wide))),
        Reach::Local => {
            let local = choice::local(candidates, here.node);
            made.push(service(policy, "", (internal, vec![]), local));
            made.push(load_balancers.join(service(policy, "@cluster", (vec![], shared), wide)));
        }
    }
    let mut nowhere = vec![];
    if !from_outside.is_empty() {
        elsewhere.insert(here.node.into(), from_outside);
    }
    for (node, frontends) in elsewhere {
        let local = choice::only_usable(choice::local(candidates, &node));
        let (served, unserved): (Vec<_>, Vec<_>) =
            frontends.into_iter().partition(|frontend| choice::is_any_usable(&local, frontend.vip));
        nowhere.extend(unserved);
        made.push(service(policy, &format!("@{node}"), (vec![], served), local));
    }
    let silent = service(policy, "@nowhere", (vec![], nowhere), vec![]);
    made.push(Service { without_backends: WithoutBackends::Drop, ..silent });
    made.retain(|service| service.all_frontends().next().is_some());
    made
}

/// What of a service is found at load balancers' addresses, and for whom.
struct LoadBalancers {
    frontends: Vec<Frontend>,
    source_ranges: Vec<IpNet>,
}

impl LoadBalancers {
    fn join(self, service: Service) -> Service {
        Service { load_balancers: self.frontends, source_ranges: self.source_ranges, ..service }
    }
}

/// The source ranges of `policy`. To kube-proxy, a node's own processes ask from the node's address; here they ask from its
/// address in the overlay, which so may ask where the node may.
fn source_ranges(policy: &Policy, here: &Place<'_>) -> Vec<IpNet> {
    let may_ask = |address: &IpAddr| policy.source_ranges.iter().any(|range| range.contains(address));
    let may_node_ask = |family: &IpAddr| {
        here.addresses.iter().any(|address| address.is_ipv4() == family.is_ipv4() && may_ask(address))
    };
    let own = here.gateways.iter().copied().filter(may_node_ask).map(IpNet::from);
    let mut ranges: Vec<_> = policy.source_ranges.iter().map(IpNet::trunc).chain(own).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

fn service(
    policy: &Policy,
    part: &str,
    (frontends, shared): (Vec<Frontend>, Vec<Frontend>),
    backends: Vec<Backend>,
) -> Service {
    Service {
        name: format!("{}{part}", policy.name),
        frontends,
        shared,
        load_balancers: vec![],
        source_ranges: vec![],
        backends,
        without_backends: WithoutBackends::Reject,
        affinity: policy.affinity,
        flow_ttl: policy.flow_ttl,
        dsr: policy.dsr,
    }
}

#[cfg(test)]
mod tests;
