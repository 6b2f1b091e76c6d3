//! The node as a call finds it: what the agent wrote, the kernel, and the dataplane's pins; and the pod's namespace.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use beeline_ipam::Store;
use lb_dataplane::{
    NetNs, Netlink, NodeFile, Pins, Ports, node_file::DEFAULT_RUNTIME_DIR, pins::DEFAULT_BPFFS, runtime_dir,
};

use crate::{
    error::{Error, NETNS, Result},
    record::Records,
};

/// A node on which pods can be wired.
pub(crate) struct Node {
    pub(crate) file: NodeFile,
    pub(crate) ports: Ports,
    /// The host's own namespace.
    pub(crate) host: Netlink,
}

impl Node {
    /// Opens all of it. Changes nothing.
    pub(crate) fn open(runtime_dir: &Path) -> Result<Self> {
        let file = NodeFile::read(runtime_dir)?;
        let ports = Ports::open(&file)?;
        let host = Netlink::open()?;
        Ok(Self { file, ports, host })
    }
}

/// What is left of a node, for taking things away: any of it may be gone, or never have been.
pub(crate) struct Remains {
    pub(crate) runtime_dir: PathBuf,
    pub(crate) records: Records,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) ports: Option<Ports>,
    pub(crate) pins: Option<Pins>,
    pub(crate) host: Netlink,
}

impl Remains {
    /// Opens what is there. Only what must not be passed over is an error: privileges, and a store that is
    /// there but cannot be read.
    pub(crate) fn open(runtime_dir: &Path) -> Result<Self> {
        let store = Store::open_existing(&runtime_dir::address_store(runtime_dir))?;
        Self::open_with(runtime_dir, store.map(Arc::new))
    }

    /// As [`Self::open`], with the store if it is open already: a process can open it only once.
    pub(crate) fn open_with(runtime_dir: &Path, store: Option<Arc<Store>>) -> Result<Self> {
        let ports = NodeFile::read(runtime_dir).map(|file| Ports::open(&file));
        let ports = match ports {
            Ok(Ok(ports)) => Some(ports),
            Ok(Err(error @ lb_dataplane::Error::NotAllowed)) => return Err(error.into()),
            Ok(Err(_)) | Err(_) => None,
        };
        Ok(Self {
            runtime_dir: runtime_dir.to_owned(),
            records: Records::of(runtime_dir)?,
            store,
            ports,
            pins: pins(runtime_dir),
            host: Netlink::open()?,
        })
    }
}

/// Where the pins are, by `node.json` whatever release wrote it; else the default place, if all else is
/// default too.
fn pins(runtime_dir: &Path) -> Option<Pins> {
    #[derive(serde::Deserialize)]
    struct Bpffs {
        bpffs: PathBuf,
    }
    let text = fs::read(NodeFile::path(runtime_dir)).ok();
    match text.and_then(|text| serde_json::from_slice::<Bpffs>(&text).ok()) {
        Some(file) => Some(Pins::new(file.bpffs)),
        None if runtime_dir == Path::new(DEFAULT_RUNTIME_DIR) => Some(Pins::new(DEFAULT_BPFFS)),
        None => None,
    }
}

/// The container's namespace, which must not be the host's.
pub(crate) fn open_netns(path: &Path) -> Result<(NetNs, Netlink)> {
    let netns = NetNs::open(path)?;
    if netns.is_same(&NetNs::current()?)? {
        return Err(Error::new(
            NETNS,
            format!("{} is the host's own network namespace: a pod needs one of its own", path.display()),
        ));
    }
    let inside = Netlink::open_in(&netns)?;
    Ok((netns, inside))
}

/// Addresses for a message.
pub(crate) fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
