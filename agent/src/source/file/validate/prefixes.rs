//! Pod prefixes of all nodes together, of both families: which of them an address lies in, and which of them collide.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_saphyr::Location;

/// A pod prefix, where it is written, and as which node's which prefix.
pub(super) struct Placed {
    pub(super) cidr: IpNet,
    pub(super) at: Location,
    pub(super) node: usize,
    pub(super) index: usize,
}

/// All of them, by address.
pub(super) struct PodPrefixes(Vec<Placed>);

impl PodPrefixes {
    pub(super) fn new(mut prefixes: Vec<Placed>) -> Self {
        prefixes.sort_by_key(|placed| (placed.cidr.network(), placed.cidr.prefix_len()));
        Self(prefixes)
    }

    /// The prefix that contains `address`. If prefixes overlap, any of them or none.
    pub(super) fn containing(&self, address: IpAddr) -> Option<IpNet> {
        let after = self.0.partition_point(|placed| placed.cidr.network() <= address);
        let cidr = self.0[..after].last()?.cidr;
        cidr.contains(&address).then_some(cidr)
    }

    /// Index of the node whose pods' prefix contains `address`.
    pub(super) fn owner(&self, address: IpAddr) -> Option<usize> {
        let after = self.0.partition_point(|placed| placed.cidr.network() <= address);
        let last = self.0[..after].last()?;
        last.cidr.contains(&address).then_some(last.node)
    }

    /// Every prefix that shares addresses with another, in pairs ordered as they are written.
    pub(super) fn overlaps(&self) -> Vec<(&Placed, &Placed)> {
        let written = |placed: &Placed| (placed.at.line(), placed.at.column());
        let mut pairs = Vec::new();
        // Prefixes either nest or are apart, so each is compared with the last one that nothing contains.
        let mut outer: Option<&Placed> = None;
        for placed in &self.0 {
            match outer {
                Some(outer) if outer.cidr.contains(&placed.cidr) => {
                    let in_order = written(outer) < written(placed);
                    pairs.push(if in_order { (outer, placed) } else { (placed, outer) });
                }
                _ => outer = Some(placed),
            }
        }
        pairs
    }
}
