//! The choice among endpoints. Families are chosen for apart: one may have endpoints where the other has none.

use std::net::IpAddr;

use lb_dataplane::desired::{Backend, BackendState, Protocol};

use super::{Candidate, Condition, Name};

/// A node, as the place that requests come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Its name.
    pub(crate) node: &'a str,
    /// Its zone, if it is in one.
    pub(crate) zone: Option<&'a str>,
    /// Addresses that others reach it at.
    pub(crate) addresses: &'a [IpAddr],
    /// Its addresses in the overlay, from which its own processes ask.
    pub(crate) gateways: &'a [IpAddr],
}

/// How close endpoints must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nearness {
    Anywhere,
    SameZone,
    SameNode,
}

/// Sorts `candidates`, and leaves one of those that are the same: while the controller moves endpoints from slice to slice,
/// one may be in two; and an address may be used again before its last owner is gone. Of UDP, there are no connections
/// that an endpoint which serves no more could keep.
pub(super) fn tidy(candidates: &mut Vec<Candidate<'_>>, protocol: Protocol) {
    if protocol == Protocol::Udp {
        candidates.retain(|candidate| candidate.condition != Condition::Unready);
    }
    candidates.sort_unstable_by_key(|candidate| (candidate.address, candidate.port, candidate.condition));
    candidates.dedup_by_key(|candidate| (candidate.address, candidate.port));
}

/// The backends for requests that any endpoint of the cluster may take: the ready ones that are meant for this place, or
/// all if that cannot be told; without any, those that end. The others keep the flows they have.
pub(super) fn cluster_wide(tidy: &[Candidate<'_>], here: &Place<'_>) -> Vec<Backend> {
    of_each_family(tidy, |family| {
        let nearness = nearness(family, here);
        let is_near = |candidate: &Candidate<'_>| match nearness {
            Nearness::Anywhere => true,
            Nearness::SameZone => candidate.is_for_zone(here),
            Nearness::SameNode => candidate.is_for_node(here),
        };
        choose(family, is_near)
    })
}

/// The backends for requests that only endpoints on `node` may take.
pub(super) fn local(tidy: &[Candidate<'_>], node: &str) -> Vec<Backend> {
    of_each_family(tidy, |family| choose(family, |candidate| candidate.node == Some(node)))
}

/// Whether one of `backends` can take a request for `vip`.
pub(super) fn is_any_usable(backends: &[Backend], vip: IpAddr) -> bool {
    backends
        .iter()
        .any(|backend| backend.state == BackendState::Ready && backend.address.is_ipv4() == vip.is_ipv4())
}

/// Those of `backends` that take new flows.
pub(super) fn only_usable(mut backends: Vec<Backend>) -> Vec<Backend> {
    backends.retain(|backend| backend.state == BackendState::Ready);
    backends
}

fn of_each_family(tidy: &[Candidate<'_>], choose: impl Fn(&[Candidate<'_>]) -> Vec<Backend>) -> Vec<Backend> {
    // Addresses of IPv4 come before those of IPv6.
    let (ipv4, ipv6) = tidy.split_at(tidy.partition_point(|candidate| candidate.address.is_ipv4()));
    let mut backends = choose(ipv4);
    backends.extend(choose(ipv6));
    backends
}

/// All of `family`: ready for new flows are those that are `fit` and ready or, without any, those that are `fit` and end.
fn choose(family: &[Candidate<'_>], is_fit: impl Fn(&Candidate<'_>) -> bool) -> Vec<Backend> {
    let is_there = |wanted| family.iter().any(|candidate| candidate.condition == wanted && is_fit(candidate));
    let chosen = [Condition::Ready, Condition::Ending].into_iter().find(|&condition| is_there(condition));
    let backend = |candidate: &Candidate<'_>| Backend {
        address: candidate.address,
        port: candidate.port,
        state: if chosen == Some(candidate.condition) && is_fit(candidate) {
            BackendState::Ready
        } else {
            BackendState::Draining
        },
    };
    family.iter().map(backend).collect()
}

/// Hints count only if every ready endpoint has them, and some are for this place.
fn nearness(family: &[Candidate<'_>], here: &Place<'_>) -> Nearness {
    let ready = || family.iter().filter(|candidate| candidate.condition == Condition::Ready);
    if ready().all(|candidate| !candidate.nodes().is_empty()) && ready().any(|it| it.is_for_node(here)) {
        return Nearness::SameNode;
    }
    if ready().all(|candidate| !candidate.zones().is_empty()) && ready().any(|it| it.is_for_zone(here)) {
        return Nearness::SameZone;
    }
    Nearness::Anywhere
}

impl Candidate<'_> {
    fn zones(&self) -> &[Name] {
        self.hints.map_or(&[], |hints| &hints.zones)
    }

    fn nodes(&self) -> &[Name] {
        self.hints.map_or(&[], |hints| &hints.nodes)
    }

    fn is_for_zone(&self, here: &Place<'_>) -> bool {
        here.zone.is_some_and(|own| self.zones().iter().any(|zone| **zone == *own))
    }

    fn is_for_node(&self, here: &Place<'_>) -> bool {
        self.nodes().iter().any(|node| **node == *here.node)
    }
}
