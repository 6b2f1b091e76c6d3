//! The node's live state: its runtime folder says where the maps are pinned, the maps say the rest.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, anyhow};
use lb_dataplane::{JsonFileError, NodeFile, View, netlink::Link};

/// The node's pinned maps, opened for reading.
pub(crate) struct Live {
    /// What the agent wrote about the node.
    pub(crate) node: NodeFile,
    /// The maps.
    pub(crate) view: View,
}

impl Live {
    /// Opens what the agent with runtime folder `dir` made. The agent itself need not run.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let node = node_file(dir)?;
        let view = View::open(&node.pins()).context("cannot read the dataplane's maps")?;
        Ok(Self { node, view })
    }
}

/// What the agent wrote about the node into runtime folder `dir`.
pub(crate) fn node_file(dir: &Path) -> anyhow::Result<NodeFile> {
    NodeFile::read(dir).map_err(|error| match error {
        JsonFileError::Missing(_) => anyhow!("{error} (or name its --runtime-dir)"),
        other => other.into(),
    })
}

/// Devices of this network namespace, by index. Empty when they cannot be asked for: names are a courtesy.
pub(crate) fn links() -> HashMap<u32, Link> {
    let ask = || -> anyhow::Result<Vec<Link>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async { Ok(lb_dataplane::Netlink::open()?.links().await?) })
    };
    ask().unwrap_or_default().into_iter().map(|link| (link.index, link)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_an_agent_is_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Live::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("start it") && error.contains("--runtime-dir"), "{error}");
    }

    #[test]
    fn maps_of_another_release_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            r#"{{"abiVersion": {}, "node": "n", "vni": 1, "podCidrs": [], "mtu": 1450, "uplink": "eth0",
                 "gateways": [], "bpffs": "/sys/fs/bpf/beeline", "attach": "tcx"}}"#,
            u32::MAX
        );
        std::fs::write(NodeFile::path(dir.path()), text).unwrap();
        let error = Live::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("one release"), "{error}");
    }
}
