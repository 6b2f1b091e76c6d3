//! One file for each command: what it reads from the node, and how that is told.

pub(crate) mod drops;
pub(crate) mod endpoints;
pub(crate) mod flows;
pub(crate) mod hops;
pub(crate) mod policy;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod trace;
