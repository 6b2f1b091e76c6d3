//! Nodes: which of them is this one, and which others can be peers: those with an address and pod prefixes that
//! nobody older has.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::{
    objects::{self, Name, Problem, Reason},
    prefixes::Prefixes,
    store::Store,
};
use crate::{model, source::balance::Place};

/// The nodes of the network, and what they take up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nodes {
    /// This node, or why it cannot be one (yet).
    pub(super) this: Result<model::Node, String>,
    /// The others.
    pub(super) peers: Vec<model::Node>,
    /// Addresses and prefixes that no VIP may lie in.
    pub(super) taken: Taken,
    /// The zone that this node is in.
    pub(super) zone: Option<Box<str>>,
    /// Every address that a node can be reached at, in order, with the node.
    pub(super) addresses: Vec<(IpAddr, Name)>,
    /// Those of this node.
    own: Vec<IpAddr>,
    /// This node's addresses in the overlay.
    gateways: Vec<IpAddr>,
}

impl Nodes {
    /// This node, whose name is `own`.
    pub(super) fn here<'a>(&'a self, own: &'a str) -> Place<'a> {
        Place { node: own, zone: self.zone.as_deref(), addresses: &self.own, gateways: &self.gateways }
    }
}

/// What nodes and their pods take up of the address space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    addresses: HashMap<IpAddr, Name>,
    prefixes: Prefixes,
}

impl Taken {
    /// Says what stands in the way if `vip` is taken by a node or by pods.
    pub(super) fn by_what(&self, vip: IpAddr) -> Option<String> {
        if let Some(node) = self.addresses.get(&vip) {
            return Some(format!("{vip} is the address of node {node}"));
        }
        self.by_which_pods(vip)
    }

    /// Says what stands in the way if `address` is of pods.
    pub(super) fn by_which_pods(&self, address: IpAddr) -> Option<String> {
        self.prefixes.containing(address).map(|cidr| format!("{address} lies in the pod prefix {cidr}"))
    }
}

/// Sorts the nodes out. What is wrong with one of them goes to `problems`.
pub(super) fn sort_out(own: &str, all: &Store<objects::Node>, problems: &mut Vec<(Name, Problem)>) -> Nodes {
    let mut taken = Taken::default();
    let mut peers = Vec::new();
    let mut this = Err(format!(
        "the cluster has no node `{own}`; start with --node (or NODE_NAME) as the kubelet registered it"
    ));
    // This node comes first whatever its age: it must know its own pods.
    let mut nodes: Vec<_> = all.iter().collect();
    nodes.sort_by_key(|(name, node)| (name.as_ref() != own, node.created, *name));
    for (name, node) in nodes {
        let mut wrong = |message| problems.push((name.clone(), Problem::new(Reason::Taken, message)));
        let is_own = name.as_ref() == own;
        let Some(address) = taken.address(name, node, &mut wrong) else {
            if is_own {
                this = Err(format!(
                    "node {own} has no IPv4 address of type InternalIP; start its kubelet with --node-ip"
                ));
            }
            continue;
        };
        let pod_cidrs = taken.pod_cidrs(node, is_own, &mut wrong);
        if pod_cidrs.is_empty() {
            // A peer that has just joined has none for a moment.
            if is_own {
                this = Err(format!(
                    "node {own} has no pod prefix (spec.podCIDRs); let kube-controller-manager give it one \
                     (--allocate-node-cidrs and --cluster-cidr, with kubeadm --pod-network-cidr)"
                ));
            }
            continue;
        }
        let node = model::Node { name: name.to_string(), address, pod_cidrs, vtep_mac: None };
        if is_own {
            this = Ok(node);
        } else {
            peers.push(node);
        }
    }
    let zone = all.get(own).and_then(|node| node.zone.clone());
    let mut addresses: Vec<_> = taken.addresses.iter().map(|(&ip, name)| (ip, name.clone())).collect();
    addresses.sort_unstable();
    let is_here = |(_, name): &&(IpAddr, Name)| name.as_ref() == own;
    Nodes {
        gateways: this.iter().flat_map(model::Node::gateways).collect(),
        own: addresses.iter().filter(is_here).map(|(ip, _)| *ip).collect(),
        this,
        peers,
        taken,
        zone,
        addresses,
    }
}

impl Taken {
    /// The node's VTEP, if it has one that is nobody else's.
    fn address(
        &mut self,
        name: &Name,
        node: &objects::Node,
        wrong: &mut impl FnMut(String),
    ) -> Option<Ipv4Addr> {
        let mut vtep = node.vtep();
        for &address in &node.addresses {
            if self.addresses.get(&address) == Some(name) {
                continue;
            }
            let obstacle = self.by_what(address);
            if let Some(obstacle) = obstacle {
                wrong(format!("its address is another's: {obstacle}"));
                vtep = vtep.filter(|&vtep| IpAddr::from(vtep) != address);
            } else {
                self.addresses.insert(address, name.clone());
            }
        }
        vtep
    }

    /// Those of the node's pod prefixes that can be used.
    fn pod_cidrs(
        &mut self,
        node: &objects::Node,
        is_own: bool,
        wrong: &mut impl FnMut(String),
    ) -> Vec<IpNet> {
        let mut usable = Vec::new();
        for &cidr in &node.pod_cidrs {
            if is_own && !model::has_room(&cidr) {
                wrong(format!("its pod prefix {cidr} has no room for a gateway and a pod"));
                continue;
            }
            match self.prefixes.insert(cidr) {
                Ok(()) => usable.push(cidr),
                Err(other) => wrong(format!("its pod prefix {cidr} overlaps {other} of an older node")),
            }
        }
        usable
    }
}
