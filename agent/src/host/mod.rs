//! This machine: what Beeline needs from it, and what it adds to it. One file for each kind of thing.
//!
//! Everything here is idempotent and compares before it writes, so that it may run again at any time, also on a
//! node full of traffic. Nothing here knows where desired state comes from.

pub(crate) mod bpffs;
pub(crate) mod cni;
pub(crate) mod devices;
pub(crate) mod ipv6;
pub(crate) mod nat;
pub(crate) mod nexthop;
pub(crate) mod ports;
pub(crate) mod preflight;
pub(crate) mod routes;
pub(crate) mod sysctl;
pub(crate) mod uplink;

use std::net::IpAddr;

pub(crate) use lb_dataplane::VXLAN_OVERHEAD;
use lb_dataplane::{LINK_GATEWAY, LINK_GATEWAY6};

/// The next hop of all that goes to `address` by the host's own device.
fn link_gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => LINK_GATEWAY.into(),
        IpAddr::V6(_) => LINK_GATEWAY6.into(),
    }
}
