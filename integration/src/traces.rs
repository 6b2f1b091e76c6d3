//! What an ADD leaves on a node, to be compared before and after.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Node, binaries, process};

/// All of a node that an ADD could leave behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    devices: BTreeSet<String>,
    endpoints: String,
    /// Owner and addresses.
    leases: BTreeSet<String>,
    links: BTreeSet<String>,
    records: BTreeSet<String>,
    /// Of policy routing, both families.
    rules: BTreeSet<String>,
}

impl Traces {
    /// What is on `node` now.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn of(node: &Node) -> Result<Self> {
        let devices = node.exec("ip -o link show")?;
        let rules = [node.exec("ip -4 rule")?, node.exec("ip -6 rule")?];
        let name = |line: &str| line.split(": ").nth(1).unwrap_or_default().to_owned();
        let links = fs::read_dir(node.bpffs().join("links"))?;
        Ok(Self {
            devices: devices.lines().map(name).collect(),
            endpoints: node.ctl_json("endpoints")?.to_string(),
            leases: leases(node)?,
            links: links
                .map(|link| Ok(link?.file_name().to_string_lossy().into_owned()))
                .collect::<Result<_>>()?,
            records: records(&node.runtime_dir().join("attachments"))?,
            rules: rules.iter().flat_map(|rules| rules.lines()).map(str::to_owned).collect(),
        })
    }
}

/// Files in the folders in `dir`, one for each boot.
fn records(dir: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for boot in fs::read_dir(dir).into_iter().flatten() {
        for record in fs::read_dir(boot?.path())? {
            found.insert(record?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// Who holds which addresses in the plugin's own store, as `beeline-ipam` tells it.
fn leases(node: &Node) -> Result<BTreeSet<String>> {
    // It lists the stores in a folder; the runtime folder holds others' files beside the one store.
    let stores = node.runtime_dir().with_file_name("stores");
    if !stores.exists() {
        fs::create_dir(&stores)?;
        symlink(node.runtime_dir().join("ipam"), stores.join("beeline"))?;
    }
    let mut list = node.command(binaries::find("beeline-ipam")?);
    list.args(["list", "--output", "json", "--data-dir"]).arg(&stores);
    let text = process::finish(list, "")?.ok()?;
    let leases: Value = serde_json::from_str(&text).with_context(|| format!("no list of leases: {text}"))?;
    let leases = leases.as_array().with_context(|| format!("no list of leases: {text}"))?;
    let lease = |lease: &Value| {
        format!("{} {} {}", lease["containerId"], lease["ifname"], lease["addresses"]).replace('"', "")
    };
    Ok(leases.iter().map(lease).collect())
}
