//! The network configuration that callers are given: the one we ship, with what a test adds to it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use integration::{Node, binaries, callers};
use serde_json::{Value, json};

/// What is installed on nodes.
const SHIPPED: &str = include_str!("../../../manifests/10-beeline.conflist");

/// A network of one node, in a folder of its own.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    name: String,
    dir: PathBuf,
    list: Value,
}

impl Network {
    /// The shipped network on `node`, in one CNI version only if `version` says which. Callers keep results by a network's
    /// name, so `name` is one that no other node's has.
    pub(crate) fn shipped(node: &Node, name: &str, version: Option<&str>) -> Result<Self> {
        let mut list: Value = serde_json::from_str(SHIPPED).context("the shipped conflist")?;
        if let Some(version) = version {
            list["cniVersion"] = version.into();
            list["cniVersions"] = json!([version]);
        }
        list["name"] = name.into();
        list["plugins"][0]["runtimeDir"] = json!(node.runtime_dir());
        let dir = node.runtime_dir().with_file_name("net.d");
        fs::create_dir_all(&dir)?;
        let network = Self { name: name.to_owned(), dir, list };
        network.write()?;
        Ok(network)
    }

    /// With `first` before our plugin and `then` after it.
    pub(crate) fn chained(mut self, first: Vec<Value>, then: Vec<Value>) -> Result<Self> {
        let plugins = self.list["plugins"].as_array_mut().context("no plugins in the conflist")?;
        plugins.splice(0..0, first);
        plugins.extend(then);
        self.write()?;
        Ok(self)
    }

    /// With addresses from where `ipam` says.
    pub(crate) fn with_ipam(mut self, ipam: Value) -> Result<Self> {
        self.list["plugins"][0]["ipam"] = ipam;
        self.write()?;
        Ok(self)
    }

    fn write(&self) -> Result<()> {
        let path = self.dir.join("10-beeline.conflist");
        fs::write(&path, self.list.to_string()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder its conflist is in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Where plugins are: ours, and the CNI project's.
pub(crate) fn plugin_dirs() -> Result<[PathBuf; 2]> {
    let ours = binaries::find("beeline")?;
    Ok([ours.parent().context("the plugin is nowhere")?.to_owned(), callers::cni()?])
}

/// The same as a `CNI_PATH`.
pub(crate) fn plugin_path() -> Result<String> {
    Ok(env::join_paths(plugin_dirs()?)?.to_string_lossy().into_owned())
}
