//! The uplink: the device that carries the underlay. It is found, never changed.

use anyhow::{Context, Result, bail};
use lb_dataplane::{Netlink, netlink::Link};

use super::VXLAN_OVERHEAD;
use crate::model::{Network, Node};

/// Smallest MTU a pod may be left with: what every IPv4 host must take (RFC 791).
const MIN_POD_MTU: u32 = 576;
/// The same for IPv6, which the kernel does not speak on links with less (RFC 8200 §5).
const MIN_POD_MTU6: u32 = 1280;

/// Finds the uplink: the device that is named, or else the `holder` of this node's address.
pub(crate) async fn find(netlink: &Netlink, network: &Network, holder: Option<&Link>) -> Result<Link> {
    let address = network.node.address;
    let link = match &network.uplink {
        Some(name) => netlink
            .link(name)
            .await?
            .with_context(|| format!("the uplink `{name}` is not there; create it, or name another as `uplink`"))?,
        None => holder.cloned().with_context(|| {
            format!(
                "no device holds {address}, the address of node `{}`; give it to one, correct the node's address, \
                 or name the device as `uplink`",
                network.node.name
            )
        })?,
    };
    let min = if network.node.ipv6().is_some() { MIN_POD_MTU6 } else { MIN_POD_MTU };
    check(&link, min)?;
    Ok(link)
}

/// Why `uplink`, though it can carry the underlay, gets no packets of other nodes: only one that was named can. `holder` has
/// this node's address.
pub(crate) async fn trouble(
    netlink: &Netlink,
    network: &Network,
    uplink: &Link,
    holder: Option<&Link>,
) -> Result<Option<String>> {
    let Node { name, address, .. } = &network.node;
    if netlink.addresses(uplink.index).await?.iter().any(|own| own.addr() == *address) {
        return Ok(None);
    }
    let uplink = &uplink.name;
    Ok(match holder {
        Some(holder) if is_virtual(holder) => None,
        Some(Link { name: holder, .. }) => Some(format!(
            "{address}, the address of node `{name}`, is held by `{holder}` and not by the uplink `{uplink}`, so other \
             nodes' packets may not arrive; name `{holder}` as `uplink`, or move the address"
        )),
        None => Some(format!(
            "no device holds {address}, the address of node `{name}`, so other nodes' packets do not arrive; give it \
             to the uplink `{uplink}`, or correct the node's address"
        )),
    })
}

/// Whether addresses of `link` are the machine's as a whole, reached by any of its devices: where routing protocols
/// announce the node's address, it is on such a one.
fn is_virtual(link: &Link) -> bool {
    link.name == "lo" || link.kind.as_deref() == Some("dummy")
}

/// Whether the underlay can be carried by `link`, and pods are left with an MTU of `min_pod_mtu`.
fn check(link: &Link, min_pod_mtu: u32) -> Result<()> {
    // Programs on the uplink find the outer headers behind an Ethernet header, and write one in front of them.
    if link.mac.is_none() {
        bail!(
            "uplink `{}` is no Ethernet device but {}, and has no MAC for the packets between nodes; name an Ethernet \
             device as `uplink`, and give the nodes its addresses",
            link.name,
            link.kind.as_deref().unwrap_or("one of another kind"),
        );
    }
    if link.mtu < min_pod_mtu + VXLAN_OVERHEAD {
        bail!(
            "uplink `{}` has an MTU of {} bytes, and VXLAN takes {VXLAN_OVERHEAD} of them; raise it to {} or more",
            link.name,
            link.mtu,
            min_pod_mtu + VXLAN_OVERHEAD
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lb_dataplane::Mac;

    use super::*;

    #[test]
    fn only_ethernet_with_room_for_vxlan_carries_the_underlay() {
        let ethernet =
            Link { name: "eth0".into(), mac: Some(Mac([2, 0, 0, 0, 0, 1])), mtu: 1500, ..Link::default() };
        check(&ethernet, MIN_POD_MTU).unwrap();

        let wireguard =
            Link { name: "wg0".into(), mac: None, kind: Some("wireguard".into()), ..ethernet.clone() };
        let error = check(&wireguard, MIN_POD_MTU).unwrap_err().to_string();
        assert!(
            error.contains("`wg0` is no Ethernet device but wireguard") && error.contains("as `uplink`"),
            "{error}"
        );
        for (mtu, min, told) in
            [(600, MIN_POD_MTU, "raise it to 626"), (1300, MIN_POD_MTU6, "raise it to 1330")]
        {
            let narrow = Link { mtu, ..ethernet.clone() };
            let error = check(&narrow, min).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
