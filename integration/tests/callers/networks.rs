//! The networks of all nodes of a cluster, and what pods leave of them.

use anyhow::Result;
use integration::{Cluster, Node};
use serde_json::Value;

use crate::{network::Network, remains::Remains};

/// A network for each node.
pub(crate) struct Networks(Vec<Network>);

impl Networks {
    /// The network as we ship it.
    pub(crate) fn shipped(cluster: &Cluster) -> Result<Self> {
        Self::new(cluster, None)
    }

    /// The same in CNI version `version` only.
    pub(crate) fn speaking(version: &str, cluster: &Cluster) -> Result<Self> {
        Self::new(cluster, Some(version))
    }

    fn new(cluster: &Cluster, version: Option<&str>) -> Result<Self> {
        let network =
            |node: &Node| Network::shipped(node, &format!("{}{}", cluster.prefix(), node.name()), version);
        cluster.nodes().iter().map(network).collect::<Result<_>>().map(Self)
    }

    /// With `first` before our plugin and `then` after it.
    pub(crate) fn chained(self, first: &[Value], then: &[Value]) -> Result<Self> {
        let chained = self.0.into_iter().map(|network| network.chained(first.to_vec(), then.to_vec()));
        chained.collect::<Result<_>>().map(Self)
    }

    /// Each node's, in order.
    pub(crate) fn each(&self) -> &[Network] {
        &self.0
    }

    /// What is on each node now.
    pub(crate) fn remains(&self, cluster: &Cluster) -> Result<Vec<Remains>> {
        cluster.nodes().iter().zip(&self.0).map(|(node, network)| Remains::of(node, network)).collect()
    }

    /// Fails if a node does not look as it did.
    pub(crate) fn ensure_gone(&self, cluster: &Cluster, before: &[Remains]) -> Result<()> {
        let mut places = cluster.nodes().iter().zip(&self.0).zip(before);
        places.try_for_each(|((node, network), before)| before.ensure_gone(node, network))
    }
}
