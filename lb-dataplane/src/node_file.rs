//! `node.json`: what the agent tells the plugin and the tools about this node.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use beeline_abi::Vni;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    attach::AttachMode,
    json_file::{self, JsonFileError},
    pins::Pins,
};

/// Folder used when nothing else is said.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/beeline";

/// The file's contents. Written whole and renamed by the agent once pods can really be wired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFile {
    /// [`beeline_abi::VERSION`] of the agent that wrote it.
    pub abi_version: u32,
    /// This node's name.
    pub node: String,
    /// VNI of the pod network.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// Prefixes this node's pods get their addresses from.
    pub pod_cidrs: Vec<IpNet>,
    /// MTU of a pod's interface: the underlay's less [`crate::VXLAN_OVERHEAD`].
    pub mtu: u32,
    /// Name of the device that carries the underlay.
    pub uplink: String,
    /// The node's own address in each pod prefix: never given to a pod.
    pub gateways: Vec<IpAddr>,
    /// Beeline's folder in bpffs.
    pub bpffs: PathBuf,
    /// How programs are attached to the node's devices.
    pub attach: AttachMode,
    /// How programs are attached to pods' ports.
    pub port_attach: AttachMode,
}

impl NodeFile {
    /// Where it is in runtime folder `dir`.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("node.json")
    }

    /// Reads it from runtime folder `dir`.
    pub fn read(dir: &Path) -> Result<Self, JsonFileError> {
        let path = Self::path(dir);
        let file: Self = json_file::read(&path)?;
        if file.abi_version != beeline_abi::VERSION {
            return Err(JsonFileError::Version { path, found: file.abi_version });
        }
        Ok(file)
    }

    /// Writes it into runtime folder `dir`, whole or not at all.
    pub fn write(&self, dir: &Path) -> Result<(), JsonFileError> {
        json_file::write(&Self::path(dir), self)
    }

    /// Beeline's pins on this node.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins::new(&self.bpffs)
    }
}

/// As a plain number.
mod vni {
    use beeline_abi::Vni;
    use serde::{
        Deserialize, Deserializer, Serializer,
        de::{Error, Unexpected},
    };

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
    pub(super) fn serialize<S: Serializer>(vni: &Vni, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(vni.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vni, D::Error> {
        let number = u32::deserialize(from)?;
        Vni::new(number)
            .ok_or_else(|| D::Error::invalid_value(Unexpected::Unsigned(number.into()), &"a VNI, of 24 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> NodeFile {
        NodeFile {
            abi_version: beeline_abi::VERSION,
            node: "node1".into(),
            vni: Vni::new(7).unwrap(),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            mtu: 1450,
            uplink: "eth0".into(),
            gateways: vec!["10.244.1.1".parse().unwrap()],
            bpffs: "/sys/fs/bpf/beeline".into(),
            attach: AttachMode::Tcx,
            port_attach: AttachMode::Clsact,
        }
    }

    #[test]
    fn survives_the_way_through_the_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(NodeFile::read(dir.path()), Err(JsonFileError::Missing(_))));
        let deeper = dir.path().join("run");
        file().write(&deeper).unwrap();
        assert_eq!(NodeFile::read(&deeper).unwrap(), file());
        assert_eq!(std::fs::read_dir(deeper).unwrap().count(), 1, "something was left beside it");
    }

    #[test]
    fn what_no_agent_of_this_release_writes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let read = |key: &str, value: u32| {
            let mut json = serde_json::to_value(file()).unwrap();
            json[key] = value.into();
            std::fs::write(NodeFile::path(dir.path()), json.to_string()).unwrap();
            NodeFile::read(dir.path())
        };
        assert!(read("vni", (1 << 24) - 1).is_ok());
        let error = read("vni", 1 << 24).unwrap_err();
        assert!(
            matches!(error, JsonFileError::Damaged { .. }) && error.to_string().contains("16777216"),
            "{error}"
        );
        let error = read("abiVersion", u32::MAX).unwrap_err();
        assert!(matches!(error, JsonFileError::Version { found: u32::MAX, .. }), "{error}");
    }
}
