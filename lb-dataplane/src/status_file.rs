//! `status.json`: what the agent says about itself to `beelinectl status` and to whoever looks into a node.
//!
//! It is for people and tools only: nothing that wires pods or moves packets reads it (that is `node.json`).

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::{
    attach::AttachMode,
    json_file::{self, JsonFileError},
};

/// The file's contents. Written whole and renamed by the agent whenever one of its facts changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusFile {
    /// How it goes, in one word.
    pub state: State,
    /// This node's name; `None` until a configuration named it.
    pub node: Option<String>,
    /// Process id of the agent.
    pub pid: u32,
    /// Release of the agent.
    pub version: String,
    /// When this agent process started.
    #[serde(with = "rfc3339")]
    pub started_at: SystemTime,
    /// Where desired state comes from.
    pub source: Source,
    /// How many configurations this agent process has made real; 0 until the first.
    pub generation: u64,
    /// When the last of them reached the kernel.
    #[serde(with = "rfc3339::option")]
    pub last_applied: Option<SystemTime>,
    /// What is wrong now; `None` if nothing is.
    pub last_error: Option<Trouble>,
    /// What the applied configuration holds.
    pub counts: Counts,
    /// The device that carries the underlay, once found.
    pub uplink: Option<Uplink>,
    /// MTU of pods that are wired from now on, in bytes.
    pub mtu: Option<u32>,
    /// How programs are attached: never `auto` once something is.
    pub attach: Option<AttachMode>,
    /// What the machine was found to have or lack at start.
    pub preflight: Vec<Check>,
}

/// How the agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Nothing has been applied yet.
    Starting,
    /// The kernel is as the configuration says.
    Ready,
    /// The last good state is kept; [`StatusFile::last_error`] says what stands in the way of the newer one.
    Degraded,
}

/// Where desired state comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Source {
    /// A watched YAML file.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// The API server of the cluster.
    Kubernetes {
        /// Where it is.
        api_server: String,
    },
}

/// What is wrong, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// Cause and cure, as logged.
    pub message: String,
    /// When it was first seen.
    #[serde(with = "rfc3339")]
    pub since: SystemTime,
}

/// How much the applied configuration holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Other nodes.
    pub peers: usize,
    /// Services.
    pub services: usize,
    /// Services among them that are balanced directly.
    pub dsr_services: usize,
    /// Frontends, over all services.
    pub frontends: usize,
    /// Backends, over all services.
    pub backends: usize,
}

/// The device that carries the underlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// This node's underlay address.
    pub address: Ipv4Addr,
    /// Its MTU, in bytes.
    pub mtu: u32,
}

/// One fact of the machine that Beeline depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at: `kernel`, `privilege`, `bpffs`, `nft`, …
    pub name: String,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found, and the cure if it is not good.
    pub detail: String,
}

impl StatusFile {
    /// Where it is in runtime folder `dir`.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("status.json")
    }

    /// Reads it from runtime folder `dir`.
    pub fn read(dir: &Path) -> Result<Self, JsonFileError> {
        json_file::read(&Self::path(dir))
    }

    /// Writes it into runtime folder `dir`, whole or not at all.
    pub fn write(&self, dir: &Path) -> Result<(), JsonFileError> {
        json_file::write(&Self::path(dir), self)
    }
}

/// Times as people and other programs read them: `2025-01-31T08:30:00Z`.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    pub(super) mod option {
        use std::time::SystemTime;

        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        #[allow(clippy::ref_option, reason = "serde passes fields so")]
        pub(crate) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            Option::<String>::deserialize(from)?
                .map(|text| humantime::parse_rfc3339(&text).map_err(D::Error::custom))
                .transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn status() -> StatusFile {
        let start = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        StatusFile {
            state: State::Degraded,
            node: Some("node1".into()),
            pid: 7,
            version: "0.1.0".into(),
            started_at: start,
            source: Source::File { path: "/etc/beeline/node.yaml".into() },
            generation: 3,
            last_applied: None,
            last_error: Some(Trouble { message: "no".into(), since: start }),
            counts: Counts::default(),
            uplink: None,
            mtu: Some(1450),
            attach: Some(AttachMode::Tcx),
            preflight: vec![],
        }
    }

    #[test]
    fn survives_the_way_through_the_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(StatusFile::read(dir.path()), Err(JsonFileError::Missing(_))));
        status().write(dir.path()).unwrap();
        assert_eq!(StatusFile::read(dir.path()).unwrap(), status());
    }

    #[test]
    fn is_readable_json() {
        let json = serde_json::to_value(status()).unwrap();
        assert_eq!(json["startedAt"], "2023-11-14T22:13:20.123Z");
        assert_eq!(json["state"], "degraded");
        assert_eq!(json["source"]["kind"], "file");
        assert_eq!(json["lastApplied"], serde_json::Value::Null);
    }
}
