//! The underlay's next hop towards each peer, as the kernel's routes have it now.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use lb_dataplane::{Netlink, netlink::Link};

use crate::model::Node;

/// Looks up the way to `peer`. `Err` inside says why there is no good one: then the kernel shall look for each packet.
pub(crate) async fn towards(
    netlink: &Netlink,
    uplink: &Link,
    peer: &Node,
) -> Result<Result<Ipv4Addr, String>> {
    let (name, address) = (&peer.name, peer.address);
    Ok(match netlink.route_to(address.into()).await? {
        None => Err(format!(
            "there is no route to {address} (node `{name}`); add one by the uplink `{}`",
            uplink.name
        )),
        Some(hop) if hop.local => {
            Err(format!("{address} (node `{name}`) is this machine's own address; correct it in `nodes`"))
        }
        Some(hop) if hop.oif != uplink.index => Err(format!(
            "the route to {address} (node `{name}`) does not go by the uplink `{}`; correct the route, or `uplink`",
            uplink.name
        )),
        Some(hop) => match hop.via {
            None => Ok(address),
            Some(IpAddr::V4(via)) => Ok(via),
            Some(IpAddr::V6(via)) => Err(format!(
                "the route to {address} (node `{name}`) has the IPv6 next hop {via}; add one by IPv4"
            )),
        },
    })
}
