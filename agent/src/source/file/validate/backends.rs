//! Backends: who answers, how far along each is, and where it is.

use std::{net::IpAddr, num::NonZeroU16};

use super::{
    Checker, Unique,
    nodes::Cluster,
    values::{self, Distribution, wrong},
};
use crate::source::{
    balance::{Candidate, Condition, Hints, Name},
    file::schema,
};

/// A backend that makes sense.
pub(super) struct Backend {
    address: IpAddr,
    port: NonZeroU16,
    condition: Condition,
    node: Option<Name>,
    hints: Option<Hints>,
}

impl Backend {
    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            address: self.address,
            port: self.port,
            condition: self.condition,
            node: self.node.as_deref(),
            hints: self.hints.as_ref(),
        }
    }
}

/// Backends may lie anywhere: outside every pod prefix they are processes on a node.
pub(super) fn backends(
    check: &mut Checker,
    i: usize,
    entry: &schema::Service,
    cluster: &Cluster<'_>,
) -> Vec<Backend> {
    let field = format_args!("services[{i}].trafficDistribution");
    let distribution = check.optional(field, entry.traffic_distribution.as_ref(), values::distribution);
    let mut seen = Unique::new();
    let mut backends = Vec::with_capacity(entry.backends.len());
    for (j, backend) in entry.backends.iter().enumerate() {
        let field = format_args!("services[{i}].backends[{j}].address");
        let address = check.value(field, &backend.address, values::address);
        let port = check.value(format_args!("services[{i}].backends[{j}].port"), &backend.port, values::port);
        let field = format_args!("services[{i}].backends[{j}].state");
        let condition = check.optional(field, backend.state.as_ref(), values::condition);
        let (node, zone) = place(check, (i, j), backend, address, cluster);
        let (Some(address), Some(port)) = (address, port) else {
            continue;
        };
        if let Err(line) = seen.insert((address, port), backend.address.referenced) {
            let found = std::net::SocketAddr::new(address, port.get());
            let twice =
                wrong(format!("{found} is already a backend of it on line {line}"), "remove one of them");
            check.complain(backend.address.referenced, format_args!("services[{i}].backends[{j}]"), twice);
        }
        let hints = distribution.map(|distribution| hints(distribution, node.as_ref(), zone.as_ref()));
        if let (Some(distribution), Some(Hints { zones, nodes })) = (distribution, &hints) {
            let (unknown, field) = match distribution {
                Distribution::SameZone => (zones.is_empty(), "zone"),
                Distribution::SameNode => (nodes.is_empty(), "node"),
            };
            if unknown {
                let cause = format!("its {field} is not known, which trafficDistribution goes by");
                let cure = format!("write `{field}` here, or take trafficDistribution away");
                let at = format_args!("services[{i}].backends[{j}]");
                check.complain(backend.address.referenced, at, wrong(cause, cure));
            }
        }
        let condition = condition.unwrap_or_default();
        backends.push(Backend { address, port, condition, node, hints });
    }
    backends
}

/// The node and the zone that a backend is in: as it says, or else as its address and its node say.
fn place(
    check: &mut Checker,
    (i, j): (usize, usize),
    entry: &schema::Backend,
    address: Option<IpAddr>,
    cluster: &Cluster<'_>,
) -> (Option<Name>, Option<Name>) {
    let field = format_args!("services[{i}].backends[{j}].node");
    let node = check.optional(field, entry.node.as_ref(), |text| {
        let cause =
            || wrong(format!("there is no node `{text}` in `nodes`"), "add it, or name one of those there");
        if cluster.has(text) { Ok(Name::from(text)) } else { Err(cause()) }
    });
    let node = node.or_else(|| cluster.node_of(address?));
    let field = format_args!("services[{i}].backends[{j}].zone");
    let zone = check.optional(field, entry.zone.as_ref(), values::name).map(Name::from);
    let zone = zone.or_else(|| cluster.zone_of(node.as_ref()?));
    (node, zone)
}

/// As the cluster's controller would write them.
fn hints(distribution: Distribution, node: Option<&Name>, zone: Option<&Name>) -> Hints {
    let zones = zone.cloned().into_iter().collect();
    let nodes = match distribution {
        Distribution::SameZone => [].into(),
        Distribution::SameNode => node.cloned().into_iter().collect(),
    };
    Hints { zones, nodes }
}
