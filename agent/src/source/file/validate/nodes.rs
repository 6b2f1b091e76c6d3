//! Nodes: names, addresses and pod prefixes that do not collide, and which of them this is.

use std::{iter, net::IpAddr};

use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::{
    Checker, Unique,
    prefixes::{Placed, PodPrefixes},
    values::{self, Wrong, wrong},
};
use crate::{
    model::{Node, has_room},
    source::{
        balance::{Name, Place},
        file::schema::{self, File},
    },
};

/// What services need to know of the nodes.
pub(super) struct Cluster<'a> {
    entries: &'a [schema::Node],
    addresses: Vec<(IpAddr, Name)>,
    zones: Vec<Option<Name>>,
    this: Option<usize>,
    /// This node's addresses.
    own: Vec<IpAddr>,
    /// Its addresses in the overlay.
    gateways: Vec<IpAddr>,
    pods: &'a PodPrefixes,
}

impl<'a> Cluster<'a> {
    /// `this` is the index of this node, which is `own` if it makes sense.
    pub(super) fn new(
        entries: &'a [schema::Node],
        this: Option<usize>,
        own: Option<&Node>,
        pods: &'a PodPrefixes,
    ) -> Self {
        let addresses = entries.iter().flat_map(|node| {
            let name = Name::from(node.name.value.as_str());
            all_addresses(node)
                .filter_map(|text| values::address(&text.value).ok())
                .map(move |ip| (ip, name.clone()))
        });
        let own_addresses = this.into_iter().flat_map(|this| all_addresses(&entries[this]));
        Self {
            entries,
            addresses: addresses.collect(),
            zones: entries.iter().map(|node| Some(node.zone.as_ref()?.value.as_str().into())).collect(),
            this,
            own: own_addresses.filter_map(|text| values::address(&text.value).ok()).collect(),
            gateways: own.into_iter().flat_map(Node::gateways).collect(),
            pods,
        }
    }

    /// Every node's address, with its name.
    pub(super) fn addresses(&self) -> &[(IpAddr, Name)] {
        &self.addresses
    }

    /// The node whose address `address` is.
    pub(super) fn at(&self, address: IpAddr) -> Option<&Name> {
        self.addresses.iter().find_map(|(ip, name)| (*ip == address).then_some(name))
    }

    /// The pod prefix that `address` lies in.
    pub(super) fn pods_around(&self, address: IpAddr) -> Option<IpNet> {
        self.pods.containing(address)
    }

    /// The node that `address` is on: as its own, or as a pod's of it.
    pub(super) fn node_of(&self, address: IpAddr) -> Option<Name> {
        let owner = || Some(self.entries[self.pods.owner(address)?].name.value.as_str().into());
        self.at(address).cloned().or_else(owner)
    }

    /// Index of the node called `name`.
    fn index(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|node| node.name.value == name)
    }

    /// Whether there is a node called `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.index(name).is_some()
    }

    /// The zone of the node called `name`.
    pub(super) fn zone_of(&self, name: &str) -> Option<Name> {
        self.zones[self.index(name)?].clone()
    }

    /// This node.
    pub(super) fn here(&self) -> Place<'_> {
        Place {
            node: self.this.map_or("", |this| &self.entries[this].name.value),
            zone: self.this.and_then(|this| self.zones[this].as_deref()),
            addresses: &self.own,
            gateways: &self.gateways,
        }
    }
}

/// The nodes that make sense, one for each entry if none was complained about, and the pod prefixes of all.
pub(super) fn nodes(check: &mut Checker, entries: &Spanned<Vec<schema::Node>>) -> (Vec<Node>, PodPrefixes) {
    if entries.value.is_empty() {
        let cure = wrong("there is no node", "write at least this one, with name, address and podCidrs");
        check.complain(entries.referenced, format_args!("nodes"), cure);
    }
    let (mut names, mut addresses) = (Unique::new(), Unique::new());
    let mut cidrs = Vec::new();
    let mut nodes = Vec::with_capacity(entries.value.len());
    for (i, entry) in entries.value.iter().enumerate() {
        let name = check.value(format_args!("nodes[{i}].name"), &entry.name, |text| {
            let name = values::name(text)?;
            names.insert(name.clone(), entry.name.referenced).map_err(|line| {
                wrong(format!("node `{text}` is already on line {line}"), "give each node its own name")
            })?;
            Ok(name)
        });
        let address = check.value(format_args!("nodes[{i}].address"), &entry.address, |text| {
            let address = values::underlay_address(text)?;
            claim(&mut addresses, address.into(), &entry.address)?;
            Ok(address)
        });
        for (j, text) in entry.other_addresses.iter().enumerate() {
            check.value(format_args!("nodes[{i}].otherAddresses[{j}]"), text, |address| {
                claim(&mut addresses, values::address(address)?, text)
            });
        }
        let mac = check.optional(format_args!("nodes[{i}].vtepMac"), entry.vtep_mac.as_ref(), values::mac);
        check.optional(format_args!("nodes[{i}].zone"), entry.zone.as_ref(), values::name);
        let pod_cidrs = pod_cidrs(check, i, &entry.pod_cidrs, &mut cidrs);
        if let (Some(name), Some(address)) = (name, address) {
            nodes.push(Node { name, address, pod_cidrs, vtep_mac: mac });
        }
    }
    let prefixes = PodPrefixes::new(cidrs);
    apart(check, entries, &prefixes);
    (nodes, prefixes)
}

/// Its address, and those that it has besides.
fn all_addresses(node: &schema::Node) -> impl Iterator<Item = &schema::Text> {
    iter::once(&node.address).chain(&node.other_addresses)
}

fn claim(claimed: &mut Unique<IpAddr>, address: IpAddr, at: &schema::Text) -> Result<(), Wrong> {
    claimed.insert(address, at.referenced).map_err(|line| {
        wrong(format!("{address} is already the node's on line {line}"), "give each node its own address")
    })
}

fn pod_cidrs(
    check: &mut Checker,
    node: usize,
    entries: &Spanned<Vec<schema::Text>>,
    all: &mut Vec<Placed>,
) -> Vec<IpNet> {
    if entries.value.is_empty() {
        let cure =
            wrong("there is no pod prefix", "write the prefix that this node's pods get addresses from");
        check.complain(entries.referenced, format_args!("nodes[{node}].podCidrs"), cure);
    }
    let mut cidrs = Vec::with_capacity(entries.value.len());
    for (j, text) in entries.value.iter().enumerate() {
        let field = format_args!("nodes[{node}].podCidrs[{j}]");
        if let Some(cidr) = check.value(field, text, values::pod_cidr) {
            cidrs.push(cidr);
            all.push(Placed { cidr, at: text.referenced, node, index: j });
        }
    }
    cidrs
}

/// Complains about prefixes that share addresses, and about node addresses in a pod prefix: the route to the
/// pods would hide the node.
fn apart(check: &mut Checker, entries: &Spanned<Vec<schema::Node>>, prefixes: &PodPrefixes) {
    for (first, second) in prefixes.overlaps() {
        let cause = format!("{} overlaps {} on line {}", second.cidr, first.cidr, first.at.line());
        let cure = "give each node pod prefixes that no other has";
        let field = format_args!("nodes[{}].podCidrs[{}]", second.node, second.index);
        check.complain(second.at, field, wrong(cause, cure));
    }
    for (i, entry) in entries.value.iter().enumerate() {
        for (j, text) in all_addresses(entry).enumerate() {
            let Ok(address) = text.value.parse() else {
                continue;
            };
            if let Some(cidr) = prefixes.containing(address) {
                let cause = format!("{address} lies in the pod prefix {cidr}");
                let wrong = wrong(cause, "take nodes and pods from different prefixes");
                match j.checked_sub(1) {
                    None => check.complain(text.referenced, format_args!("nodes[{i}].address"), wrong),
                    Some(j) => {
                        check.complain(
                            text.referenced,
                            format_args!("nodes[{i}].otherAddresses[{j}]"),
                            wrong,
                        );
                    }
                }
            }
        }
    }
}

/// Index of the entry that is this node: the one called `name`, or else as the file's `node:` says.
pub(super) fn this(check: &mut Checker, file: &File, name: Option<&str>) -> Option<usize> {
    let Some((name, at)) = name
        .map(|name| (name, file.nodes.referenced))
        .or_else(|| file.node.as_ref().map(|text| (text.value.as_str(), text.referenced)))
    else {
        let cure = wrong(
            "the file does not say which of its nodes this is",
            "add `node: <name>`, or start with --node",
        );
        check.complain(file.nodes.referenced, format_args!("node"), cure);
        return None;
    };
    let entries = &file.nodes.value;
    let Some(index) = entries.iter().position(|entry| entry.name.value == name) else {
        let known: Vec<_> = entries.iter().take(8).map(|entry| entry.name.value.as_str()).collect();
        let cause = format!("there is no node `{name}` in `nodes`");
        let cure = format!("add it, or name one of those there: {}", known.join(", "));
        check.complain(at, format_args!("node"), wrong(cause, cure));
        return None;
    };
    for (j, text) in entries[index].pod_cidrs.value.iter().enumerate() {
        if let Ok(cidr) = values::pod_cidr(&text.value)
            && !has_room(&cidr)
        {
            let longest = cidr.max_prefix_len() - 2;
            let cause = format!("{} has no room for a gateway and a pod", text.value);
            let field = format_args!("nodes[{index}].podCidrs[{j}]");
            check.complain(
                text.referenced,
                field,
                wrong(cause, format!("give this node a prefix of length {longest} or less")),
            );
        }
    }
    Some(index)
}
