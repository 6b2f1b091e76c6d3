//! The versions of the CNI specification that are spoken, and what each of them has.

use std::fmt;

use serde_json::Value;

use crate::Failure;

/// A version of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The oldest spoken: results with interfaces and several addresses.
    V0_3_1,
    /// Has CHECK.
    V0_4_0,
    /// Names no family of addresses any more.
    V1_0_0,
    /// Has GC and STATUS, and more in results.
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest.
    pub const LATEST: Self = Self::V1_1_0;

    /// As configurations and results write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that `text` names, if it is spoken.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// True if results name the family of each address (`ips[].version`).
    #[must_use]
    pub fn names_families(self) -> bool {
        self < Self::V1_0_0
    }

    /// True if there is CHECK.
    #[must_use]
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// True if there are GC and STATUS.
    #[must_use]
    pub fn has_gc(self) -> bool {
        self >= Self::V1_1_0
    }

    /// The versions spoken, for messages.
    #[must_use]
    pub fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// The result of VERSION, asked for in this version.
    pub(crate) fn reply(self) -> Result<Value, Failure> {
        let parsed: Result<Vec<_>, _> = Self::ALL.iter().map(|version| version.as_str().parse()).collect();
        let reply = cni_plugin::reply::VersionReply {
            cni_version: self.as_str().parse().map_err(Failure::bug)?,
            supported_versions: parsed.map_err(Failure::bug)?,
        };
        serde_json::to_value(reply).map_err(Failure::bug)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_versions_are_told() {
        let told =
            json!({ "cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] });
        assert_eq!(Version::V0_4_0.reply().unwrap(), told);
    }

    #[test]
    fn versions_are_known_by_name() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        for text in ["0.2.0", "1.1", "1.1.0 ", "v1.1.0", ""] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
