//! Services as the dataplane wants them: for each port of a Kubernetes service those that [`balance`] makes of it, with the
//! endpoints of all its slices behind it. A frontend is one service's: of two that want it, the older one has it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use lb_dataplane::{
    Room,
    desired::{Frontend, Service},
};

use super::{
    nodes::Nodes,
    objects::{self, Name, Port, Problem, Reason, ServicePort, Slice},
};
use crate::source::balance::{self, Candidate, Claims, Policy};

/// The services, kept up one by one.
#[derive(Default)]
pub(super) struct Services {
    /// What each Kubernetes service came to.
    made: BTreeMap<Name, Box<[Arc<Service>]>>,
    /// Who has each frontend.
    owners: HashMap<Frontend, Name>,
    /// Who would have one that another has.
    waiting: BTreeSet<Name>,
    /// What all of them need.
    room: Room,
}

/// What stands around a service.
pub(super) struct Surroundings<'a> {
    /// Name of this node.
    pub(super) own: &'a str,
    /// The nodes, and what no VIP may be.
    pub(super) nodes: &'a Nodes,
    /// Whether the service of that name has older rights than the one that is looked at.
    pub(super) is_older: &'a dyn Fn(&str) -> bool,
}

impl Services {
    /// What each Kubernetes service came to, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &[Arc<Service>])> {
        self.made.iter().map(|(name, made)| (name, &**made))
    }

    /// Whether the maps have room for all of them.
    pub(super) fn all_fit(&self) -> bool {
        self.room.check().is_ok()
    }

    /// Forgets service `name`. Returns who is to be looked at again.
    pub(super) fn remove(&mut self, name: &Name) -> Vec<Name> {
        self.waiting.remove(name);
        let released = self.release(name);
        if let Some(before) = self.made.remove(name) {
            self.room.remove(&before);
        }
        if released.is_empty() { vec![] } else { self.waiting.iter().cloned().collect() }
    }

    /// Brings service `name` up to date. Returns who is to be looked at again.
    pub(super) fn put(
        &mut self,
        name: &Name,
        service: &objects::Service,
        slices: &[&Slice],
        around: &Surroundings<'_>,
        problems: &mut Vec<Problem>,
    ) -> Vec<Name> {
        self.waiting.remove(name);
        let released = self.release(name);
        let here = around.nodes.here(around.own);
        let mut again = vec![];
        let mut made = Vec::with_capacity(service.ports.len());
        let mut names = BTreeSet::new();
        for it in &service.ports {
            let port = &it.port;
            if !names.insert(&port.name) {
                problems.push(Problem::new(Reason::Taken, format!("two ports are called `{}`", port.name)));
                continue;
            }
            let mut claimant = Claimant { all: self, name, around, problems, again: &mut again };
            let claims = claimant.claims(service, it);
            let policy = policy(full_name(name, &port.name), service, port);
            made.extend(balance::services(&policy, claims, &mut candidates(port, slices), &here));
        }
        self.keep(name, made);
        if released.iter().any(|frontend| self.owners.get(frontend) != Some(name)) {
            again.extend(self.waiting.iter().filter(|waiting| *waiting != name).cloned());
        }
        again
    }

    /// Takes back the frontends that `name` has, and returns them.
    fn release(&mut self, name: &Name) -> Vec<Frontend> {
        let services = self.made.get(name).into_iter().flatten();
        let released: Vec<_> = services.flat_map(|service| service.all_frontends().copied()).collect();
        for frontend in &released {
            // It may have been given to an older one already.
            if self.owners.get(frontend) == Some(name) {
                self.owners.remove(frontend);
            }
        }
        released
    }

    /// Keeps what `name` came to; what is as before stays the very same.
    fn keep(&mut self, name: &Name, made: Vec<Service>) {
        let before = self.made.get(name);
        let now: Box<[_]> = made
            .into_iter()
            .map(|service| {
                let same = before.into_iter().flatten().find(|before| ***before == service);
                same.cloned().unwrap_or_else(|| Arc::new(service))
            })
            .collect();
        self.room.add(&now);
        if let Some(before) = self.made.insert(name.clone(), now) {
            self.room.remove(&before);
        }
    }
}

/// A service that asks for frontends.
struct Claimant<'a> {
    all: &'a mut Services,
    name: &'a Name,
    around: &'a Surroundings<'a>,
    problems: &'a mut Vec<Problem>,
    /// Who has lost one to it.
    again: &'a mut Vec<Name>,
}

impl Claimant<'_> {
    /// The frontends of port `it` of `service` that it may have.
    fn claims(&mut self, service: &objects::Service, it: &ServicePort) -> Claims {
        let nodes = self.around.nodes;
        // Nodes and external addresses lead to the families that the service has.
        let has_family = |ip: IpAddr| service.vips.iter().any(|vip| vip.is_ipv4() == ip.is_ipv4());
        let Port { number: port, protocol, .. } = it.port;
        let mut claims = Claims::default();
        for &vip in &service.vips {
            let frontend = Frontend { vip, port, protocol };
            claims.internal.extend(self.claim(frontend, nodes.taken.by_what(vip)));
        }
        // They may be nodes' own: then it is such a node's port that others cannot have.
        for (ips, claimed) in
            [(&service.external, &mut claims.external), (&service.load_balancers, &mut claims.load_balancers)]
        {
            for &vip in ips.iter().filter(|ip| has_family(**ip)) {
                let frontend = Frontend { vip, port, protocol };
                claimed.extend(self.claim(frontend, nodes.taken.by_which_pods(vip)));
            }
        }
        if let Some(port) = it.node_port {
            for (vip, node) in nodes.addresses.iter().filter(|(ip, _)| has_family(*ip)) {
                let frontend = self.claim(Frontend { vip: *vip, port, protocol }, None);
                claims.nodes.extend(frontend.map(|frontend| (node.clone(), frontend)));
            }
        }
        claims.internal.shrink_to_fit();
        claims
    }

    /// `frontend`, if there is no `obstacle` and nobody older has it.
    fn claim(&mut self, frontend: Frontend, obstacle: Option<String>) -> Option<Frontend> {
        let mut wrong = |message| self.problems.push(Problem::new(Reason::Taken, message));
        if let Some(obstacle) = obstacle {
            wrong(obstacle);
            return None;
        }
        match self.all.owners.get(&frontend) {
            Some(owner) if owner == self.name => {
                wrong(format!("it has the frontend {frontend} twice"));
                return None;
            }
            Some(owner) if (self.around.is_older)(owner) => {
                wrong(format!("the frontend {frontend} is that of service {owner}, which is older"));
                self.all.waiting.insert(self.name.clone());
                return None;
            }
            Some(owner) => self.again.push(owner.clone()),
            None => {}
        }
        self.all.owners.insert(frontend, self.name.clone());
        Some(frontend)
    }
}

fn policy(name: String, service: &objects::Service, port: &Port) -> Policy {
    Policy {
        name,
        protocol: port.protocol,
        internal: service.internal_policy,
        external: service.external_policy,
        source_ranges: service.source_ranges.clone(),
        affinity: service.affinity,
        flow_ttl: service.flow_ttl,
        dsr: service.dsr,
    }
}

/// `namespace/name:port`, without the last part for a port without a name.
fn full_name(service: &str, port: &str) -> String {
    if port.is_empty() { service.to_owned() } else { format!("{service}:{port}") }
}

/// The endpoints behind `port`. The number behind it may differ between slices.
fn candidates<'a>(port: &Port, slices: &[&'a Slice]) -> Vec<Candidate<'a>> {
    let is_behind = |other: &&Port| other.name == port.name && other.protocol == port.protocol;
    let behind = slices.iter().filter_map(|slice| Some((slice, slice.ports.iter().find(is_behind)?)));
    let candidates = behind.flat_map(|(slice, target)| {
        slice.endpoints.iter().map(|endpoint| Candidate {
            address: endpoint.address,
            port: target.number,
            condition: endpoint.condition,
            node: endpoint.node.as_deref(),
            hints: endpoint.hints.as_deref(),
        })
    });
    candidates.collect()
}
