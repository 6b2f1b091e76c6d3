//! Requests: what a caller wants of the store.

use std::{net::IpAddr, time::Duration};

use crate::{Owner, RangeSet, Sandbox};

/// How long an address rests after it was given back, unless the configuration says otherwise: longer than peers
/// keep retransmitting to what they believe is still there.
pub const DEFAULT_COOLDOWN: Duration = Duration::from_secs(30);

/// Who wants addresses, and which.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Who.
    pub owner: &'a Owner,
    /// One address is given from each.
    pub sets: &'a [RangeSet],
    /// Addresses to give, at most one of each set; the other sets choose.
    pub wanted: &'a [IpAddr],
    /// Where they will be used, so that they can be taken back when that is gone.
    pub sandbox: Option<Sandbox>,
    /// The pod's name, for people who look at leases.
    pub pod: Option<String>,
    /// How long they shall rest once they are given back.
    pub cooldown: Duration,
}

impl<'a> Request<'a> {
    /// Any address of each of `sets`.
    #[must_use]
    pub fn new(owner: &'a Owner, sets: &'a [RangeSet]) -> Self {
        Self { owner, sets, wanted: &[], sandbox: None, pod: None, cooldown: DEFAULT_COOLDOWN }
    }
}
