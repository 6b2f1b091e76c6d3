//! Leases: what an owner holds.

use std::{
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{Request, Sandbox, clock::milliseconds};

/// What an owner holds. Stored as JSON, so that later releases can add to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// One address from each range set that was asked for, in the order of the sets.
    pub addresses: Vec<IpAddr>,
    /// When it was given, in seconds since 1970.
    pub since: u64,
    /// Tells it from every other lease of its store; 0 if the release that gave it knew no numbers.
    #[serde(default)]
    pub serial: u64,
    /// Where the addresses are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
    /// The pod's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// How long the addresses rest after they were given back, in milliseconds.
    #[serde(default)]
    pub cooldown: u64,
}

impl Lease {
    pub(crate) fn now(request: &Request<'_>, addresses: Vec<IpAddr>, serial: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let cooldown = milliseconds(request.cooldown);
        Self {
            addresses,
            since,
            serial,
            sandbox: request.sandbox.clone(),
            pod: request.pod.clone(),
            cooldown,
        }
    }
}
