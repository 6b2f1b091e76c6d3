//! Failures as a runtime sees them: a code of the specification (or the plugin's own, from 100 up) and words to
//! act on.

use std::fmt;

use cni_plugin::reply::ErrorReply;
use serde_json::{Value, json};

use crate::Version;

/// Code of an error. Those below 100 are the specification's ("Error", well-known codes); plugins have theirs
/// from 100 up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u16);

impl Code {
    /// The configuration's `cniVersion` is none that is spoken, or lacks the command.
    pub const VERSION: Self = Self(1);
    /// The configuration has a field that cannot be honoured.
    pub const UNSUPPORTED_FIELD: Self = Self(2);
    /// The container is not known here.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// A variable of the environment is missing or bad.
    pub const ENVIRONMENT: Self = Self(4);
    /// The system failed.
    pub const IO: Self = Self(5);
    /// Standard input is not JSON of the right shape.
    pub const DECODE: Self = Self(6);
    /// The configuration makes no sense.
    pub const CONFIG: Self = Self(7);
    /// Not yet; the same call may succeed later.
    pub const TRY_AGAIN: Self = Self(11);
    /// STATUS: no ADD would succeed.
    pub const NOT_AVAILABLE: Self = Self(50);
    /// STATUS: no ADD would succeed, and containers that are there may have limited connectivity.
    pub const LIMITED: Self = Self(51);
    /// The plugin has a bug.
    pub const BUG: Self = Self(199);
}

/// Why a request was not done.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct Failure {
    /// Its code.
    pub code: Code,
    /// What is wrong and what to do about it.
    pub msg: String,
    /// More about it; may be empty.
    pub details: String,
}

impl Failure {
    /// A failure with these words.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// Something that cannot happen unless the plugin is wrong.
    pub fn bug(error: impl fmt::Display) -> Self {
        Self::new(Code::BUG, "the plugin has a bug; please report it with the details").with_details(error)
    }

    /// Adds to the details.
    #[must_use]
    pub fn with_details(mut self, details: impl fmt::Display) -> Self {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(&details.to_string());
        self
    }

    /// The JSON that the specification wants on standard output.
    #[must_use]
    pub fn reply(&self, version: Version) -> Value {
        let code = i32::from(self.code.0);
        let reply = version.as_str().parse().map(|cni_version| ErrorReply {
            cni_version,
            code,
            msg: &self.msg,
            details: self.details.clone(),
        });
        // Neither can fail: the versions are ours, and the type has nothing but strings and a number.
        reply
            .ok()
            .and_then(|reply| serde_json::to_value(reply).ok())
            .unwrap_or_else(|| json!({ "cniVersion": version.as_str(), "code": code, "msg": self.msg }))
    }
}
