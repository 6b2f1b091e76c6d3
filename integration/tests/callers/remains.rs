//! What callers leave on a node: of Beeline, and of plugins chained to it.

use std::{collections::BTreeSet, fs};

use anyhow::{Result, ensure};
use integration::{Node, traces::Traces};

use crate::network::Network;

/// All that a pod could leave behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    beeline: Traces,
    rules: BTreeSet<String>,
    /// What libcni keeps of attachments.
    results: BTreeSet<String>,
}

impl Remains {
    pub(crate) fn of(node: &Node, network: &Network) -> Result<Self> {
        let rules = node.exec("nft --stateless list ruleset")?;
        let results = fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten();
        let results = results.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(Self {
            beeline: Traces::of(node)?,
            rules: rules.lines().map(str::to_owned).collect(),
            results: results.filter(|name| name.starts_with(&format!("{}-", network.name()))).collect(),
        })
    }

    /// Fails if `node` does not look as it did.
    pub(crate) fn ensure_gone(&self, node: &Node, network: &Network) -> Result<()> {
        let now = Self::of(node, network)?;
        ensure!(now == *self, "left behind on {}: {now:#?}\nbefore: {self:#?}", node.name());
        Ok(())
    }
}
