//! What is known of the cluster, and what follows from it for this node. Only what an event touches is worked out
//! anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    num::NonZeroU16,
    sync::Arc,
};

use k8s_openapi::api::{core::v1 as core, discovery::v1::EndpointSlice};
use kube::runtime::watcher::Event;
use lb_dataplane::{AttachMode, Room, desired};

use super::{
    health_checks::HealthCheck,
    nodes::{self, Nodes},
    objects::{Name, Names, Node, Problem, Reason, Service, Slice, name},
    problems::{Kind, Problems, Stage},
    services::{Services, Surroundings},
    store::Store,
};
use crate::model::{DEFAULT_VNI, Network, VXLAN_PORT};

/// The cluster as it is known.
pub(super) struct State {
    /// Name of this node.
    own: String,
    nodes: Store<Node>,
    services: Store<Service>,
    slices: Store<Slice>,
    names: Names,
    /// The slices of each service, in order, be it known or not. There is hardly ever more than one.
    slices_of: BTreeMap<Name, Vec<Name>>,
    /// What the nodes came to; `None` if they have changed since.
    sorted: Option<Nodes>,
    /// What the services came to.
    balanced: Services,
    /// Services that the maps have no room for.
    left_out: BTreeSet<Name>,
    /// What load balancers ask this node of services, and where.
    health_checks: BTreeMap<Name, (NonZeroU16, HealthCheck)>,
    /// Services to be looked at (again).
    touched: BTreeSet<Name>,
    problems: Problems,
    /// Counts what changed anything.
    changes: u64,
}

impl State {
    /// Nothing is known yet. `own` is the name of this node.
    pub(super) fn new(own: String, problems: Problems) -> Self {
        Self {
            own,
            nodes: Store::default(),
            services: Store::default(),
            slices: Store::default(),
            names: Names::default(),
            slices_of: BTreeMap::new(),
            sorted: None,
            balanced: Services::default(),
            left_out: BTreeSet::new(),
            health_checks: BTreeMap::new(),
            touched: BTreeSet::new(),
            problems,
            changes: 0,
        }
    }

    /// How often anything has changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether all that there is has been listed once: what is known before that is no whole.
    pub(super) fn is_complete(&self) -> bool {
        self.nodes.is_complete() && self.services.is_complete() && self.slices.is_complete()
    }

    /// Takes in what happened to a node.
    pub(super) fn node(&mut self, event: Event<core::Node>) {
        match event {
            Event::Init => self.nodes.begin(),
            Event::InitApply(object) | Event::Apply(object) => {
                let name = name(&object.metadata);
                let mut problems = vec![];
                let node = Node::read(object, &mut problems);
                self.problems.set(Kind::Node, &name, Stage::Reading, problems);
                if self.nodes.insert(name, node).is_ok() {
                    self.unsort();
                }
            }
            Event::Delete(object) => self.remove_node(&name(&object.metadata)),
            Event::InitDone => self.nodes.end().iter().for_each(|name| self.remove_node(name)),
        }
    }

    fn remove_node(&mut self, name: &Name) {
        self.problems.forget(Kind::Node, name);
        if self.nodes.remove(name).is_some() {
            self.unsort();
        }
    }

    fn unsort(&mut self) {
        self.sorted = None;
        self.changes += 1;
    }

    fn touch(&mut self, service: Name) {
        self.touched.insert(service);
        self.changes += 1;
    }

    /// Takes in what happened to a service.
    pub(super) fn service(&mut self, event: Event<core::Service>) {
        match event {
            Event::Init => self.services.begin(),
            Event::InitApply(object) | Event::Apply(object) => {
                let name = name(&object.metadata);
                let mut problems = vec![];
                let Some(service) = Service::read(object, &mut self.names, &mut problems) else {
                    return self.remove_service(&name);
                };
                self.problems.set(Kind::Service, &name, Stage::Reading, problems);
                if self.services.insert(name.clone(), service).is_ok() {
                    self.touch(name);
                }
            }
            Event::Delete(object) => self.remove_service(&name(&object.metadata)),
            Event::InitDone => self.services.end().iter().for_each(|name| self.remove_service(name)),
        }
    }

    fn remove_service(&mut self, name: &Name) {
        self.problems.forget(Kind::Service, name);
        if self.services.remove(name).is_some() {
            self.touch(name.clone());
        }
    }

    /// Takes in what happened to an endpoint slice.
    pub(super) fn slice(&mut self, event: Event<EndpointSlice>) {
        match event {
            Event::Init => self.slices.begin(),
            Event::InitApply(object) | Event::Apply(object) => {
                let name = name(&object.metadata);
                let mut problems = vec![];
                let Some(slice) = Slice::read(object, &mut self.names, &mut problems) else {
                    return self.remove_slice(&name);
                };
                self.problems.set(Kind::EndpointSlice, &name, Stage::Reading, problems);
                let service = slice.service.clone();
                match self.slices.insert(name.clone(), slice) {
                    Ok(Some(before)) if before.service != service => self.unlink(&name, &before.service),
                    Ok(_) => {}
                    Err(_) => return,
                }
                self.link(name, &service);
                self.touch(service);
            }
            Event::Delete(object) => self.remove_slice(&name(&object.metadata)),
            Event::InitDone => self.slices.end().iter().for_each(|name| self.remove_slice(name)),
        }
    }

    fn remove_slice(&mut self, name: &Name) {
        self.problems.forget(Kind::EndpointSlice, name);
        if let Some(slice) = self.slices.remove(name) {
            self.unlink(name, &slice.service);
        }
    }

    /// Slice `name` is `service`'s.
    fn link(&mut self, name: Name, service: &Name) {
        let slices = self.slices_of.entry(service.clone()).or_insert_with(|| Vec::with_capacity(1));
        if let Err(place) = slices.binary_search(&name) {
            slices.insert(place, name);
        }
    }

    /// Slice `name` is no longer `service`'s.
    fn unlink(&mut self, name: &Name, service: &Name) {
        if let Some(slices) = self.slices_of.get_mut(service) {
            slices.retain(|slice| slice != name);
            if slices.is_empty() {
                self.slices_of.remove(service);
            }
        }
        self.touch(service.clone());
    }

    /// The network as this node shall see it, or why there is none for it.
    pub(super) fn network(&mut self) -> Result<Network, String> {
        let nodes = self.sort_nodes();
        while let Some(name) = self.touched.pop_first() {
            let again = self.balance(&name, &nodes);
            self.touched.extend(again);
        }
        let network = nodes.this.clone().map(|node| Network {
            vni: DEFAULT_VNI,
            vxlan_port: VXLAN_PORT,
            uplink: None,
            attach: AttachMode::Auto,
            node,
            peers: nodes.peers.clone(),
            services: self.fitting(),
        });
        self.sorted = Some(nodes);
        network
    }

    /// The services that the maps have room for: all, or else as many as fit, older ones first. The others are told of, and the
    /// rest works.
    fn fitting(&mut self) -> Vec<Arc<desired::Service>> {
        let mut left_out = BTreeMap::new();
        if !self.balanced.all_fit() {
            let mut oldest_first: Vec<_> = self.balanced.iter().collect();
            oldest_first.sort_by_key(|(name, _)| self.services.get(name).map(|service| service.created));
            let mut room = Room::default();
            for (name, made) in oldest_first {
                if let Err(error) = room.admit(made) {
                    left_out.insert(name.clone(), Problem::new(Reason::Room, error.to_string()));
                }
            }
        }
        let fit = self.balanced.iter().filter(|(name, _)| !left_out.contains_key(*name));
        let services = fit.flat_map(|(_, made)| made).cloned().collect();
        let let_in = mem::take(&mut self.left_out).into_iter().filter(|name| !left_out.contains_key(name));
        for name in let_in.collect::<Vec<_>>() {
            self.problems.set(Kind::Service, &name, Stage::Fitting, vec![]);
        }
        for (name, problem) in left_out {
            self.problems.set(Kind::Service, &name, Stage::Fitting, vec![problem]);
            self.left_out.insert(name);
        }
        services
    }

    /// What load balancers ask this node, and at which port.
    pub(super) fn health_checks(&self) -> impl Iterator<Item = (NonZeroU16, &HealthCheck)> {
        self.health_checks.values().map(|(port, check)| (*port, check))
    }

    /// What the nodes come to. If they take up other addresses than before, every VIP is looked at again.
    fn sort_nodes(&mut self) -> Nodes {
        if let Some(nodes) = self.sorted.take() {
            return nodes;
        }
        let mut problems: BTreeMap<Name, Vec<Problem>> = BTreeMap::new();
        let mut found = vec![];
        let nodes = nodes::sort_out(&self.own, &self.nodes, &mut found);
        for (name, problem) in found {
            problems.entry(name).or_default().push(problem);
        }
        for (name, _) in self.nodes.iter() {
            self.problems.set(Kind::Node, name, Stage::Placing, problems.remove(name).unwrap_or_default());
        }
        self.touched.extend(self.services.iter().map(|(name, _)| name.clone()));
        nodes
    }

    /// Works out what service `name` comes to. Returns who is to be looked at again.
    fn balance(&mut self, name: &Name, nodes: &Nodes) -> Vec<Name> {
        self.health_checks.remove(name);
        let Some(service) = self.services.get(name) else {
            return self.balanced.remove(name);
        };
        let slices = self.slices_of.get(name).into_iter().flatten();
        let slices: Vec<&Slice> = slices.filter_map(|slice| self.slices.get(slice)).collect();
        if let Some(port) = service.health_check_port {
            let local_endpoints = Slice::ready_on(&slices, &self.own);
            self.health_checks
                .insert(name.clone(), (port, HealthCheck { service: name.clone(), local_endpoints }));
        }
        let age = (service.created, name.as_ref());
        let is_older =
            |other: &str| self.services.get(other).is_some_and(|service| (service.created, other) < age);
        let around = Surroundings { own: &self.own, nodes, is_older: &is_older };
        let mut problems = vec![];
        let again = self.balanced.put(name, service, &slices, &around, &mut problems);
        self.problems.set(Kind::Service, name, Stage::Placing, mem::take(&mut problems));
        again
    }
}
