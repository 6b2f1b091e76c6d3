//! A node: how others reach it, and the prefixes of its pods.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use k8s_openapi::{api::core::v1 as api, jiff::Timestamp};

use super::{Problem, created, good, values};

/// Names the zone of a node.
const ZONE: &str = "topology.kubernetes.io/zone";

/// A Node, trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Its addresses within the cluster (`InternalIP`), of both families.
    pub(crate) addresses: Vec<IpAddr>,
    /// Prefixes that the cluster gave it for its pods; none until the cluster's controller has done so.
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// The zone that it is in, if it is in one.
    pub(crate) zone: Option<Box<str>>,
}

impl Node {
    /// What is used of `object`.
    pub(crate) fn read(object: api::Node, problems: &mut Vec<Problem>) -> Self {
        let created = created(&object.metadata);
        let zone = object.metadata.labels.and_then(|mut labels| labels.remove(ZONE));
        let status = object.status.unwrap_or_default();
        let addresses = status.addresses.unwrap_or_default();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        let spec = object.spec.unwrap_or_default();
        // Clusters of one family may fill only the older field.
        let cidrs = spec.pod_cidrs.unwrap_or_else(|| spec.pod_cidr.into_iter().collect());
        Self {
            created,
            addresses: internal
                .filter_map(|address| good(values::address(&address.address), problems))
                .collect(),
            pod_cidrs: cidrs.iter().filter_map(|cidr| good(values::pod_cidr(cidr), problems)).collect(),
            zone: zone.filter(|zone| !zone.is_empty()).map(Into::into),
        }
    }

    /// The address that VXLAN goes to: the first of IPv4.
    pub(crate) fn vtep(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }
}
