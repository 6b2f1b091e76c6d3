//! Beeline's own devices: the host's veth pair, and the kernel's vxlan device for the slow path.
//!
//! They are made when missing and corrected when different. A device of that name and another kind is somebody
//! else's: it is named, and left alone.

use std::{collections::BTreeSet, net::IpAddr, num::NonZeroU16, path::Path};

use anyhow::{Error, Result, anyhow, bail};
use ipnet::IpNet;
use lb_dataplane::{
    Mac, Netlink,
    netlink::{Link, Neighbour, Veth, VethEnd, Vxlan},
};

use super::{ipv6, link_gateway, sysctl};

/// The host's own device: what is for the host is received here, and what it sends to pods and VIPs leaves here.
pub(crate) const HOST: &str = "beeline0";
/// The host's own port: the other end of that veth pair.
pub(crate) const HOST_PORT: &str = "beeline0-port";
/// The kernel's vxlan device.
pub(crate) const VXLAN: &str = "beeline-vxlan";

/// The devices as they are now.
#[derive(Debug)]
pub(crate) struct Devices {
    pub(crate) host: Link,
    pub(crate) host_port: Link,
}

/// What the devices shall be.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The node's own address in each of its pod prefixes; never empty.
    pub(crate) gateways: &'a [IpAddr],
    /// MAC of the host's own device.
    pub(crate) host_mac: Mac,
    /// MTU of pods.
    pub(crate) mtu: u32,
    /// UDP port of VXLAN.
    pub(crate) vxlan_port: NonZeroU16,
    /// Where sysctls are.
    pub(crate) sysctls: &'a Path,
}

/// Makes the devices what is wanted, up and with their addresses.
pub(crate) async fn ensure(netlink: &Netlink, wanted: &Wanted<'_>) -> Result<Devices> {
    let (host, host_port) = ensure_pair(netlink, wanted).await?;
    if wanted.gateways.iter().any(IpAddr::is_ipv6) {
        sysctl::allow_ipv6(wanted.sysctls).map_err(Error::msg)?;
    }
    ensure_addresses(netlink, &host, wanted.gateways).await?;
    ensure_neighbours(netlink, &host, wanted.gateways).await?;
    ensure_vxlan(netlink, wanted).await?;
    Ok(Devices { host, host_port })
}

/// The names that Beeline's devices have, and their kinds.
pub(crate) const ALL: [(&str, &str); 3] = [(HOST, "veth"), (HOST_PORT, "veth"), (VXLAN, "vxlan")];

/// Removes the device called `name`, and says whether it was there. One that is not of `kind` stays.
pub(crate) async fn remove(netlink: &Netlink, name: &str, kind: &str) -> Result<bool> {
    let link = netlink.link(name).await?.filter(|link| is(link, kind));
    if let Some(link) = &link {
        netlink.delete_link(link.index).await?;
    }
    Ok(link.is_some())
}

fn is(link: &Link, kind: &str) -> bool {
    link.kind.as_deref() == Some(kind)
}

/// The device called `name`, if it is there. An error if it is of another kind than Beeline makes it.
async fn own(netlink: &Netlink, name: &str, kind: &str) -> Result<Option<Link>> {
    let link = netlink.link(name).await?;
    if let Some(link) = &link
        && !is(link, kind)
    {
        let found = link.kind.as_deref().unwrap_or("hardware");
        bail!(
            "device `{name}` is a {found} device and not Beeline's {kind}; rename or delete it (`ip link del {name}`)"
        );
    }
    Ok(link)
}

async fn ensure_pair(netlink: &Netlink, wanted: &Wanted<'_>) -> Result<(Link, Link)> {
    let host = own(netlink, HOST, "veth").await?;
    let port = own(netlink, HOST_PORT, "veth").await?;
    let pair = match (host, port) {
        (Some(host), Some(port)) if host.peer == Some(port.index) && !host.peer_elsewhere => (host, port),
        (host, port) => {
            // One of them alone, or two that do not belong together: of no use to anybody.
            for half in host.into_iter().chain(port) {
                netlink.delete_link(half.index).await?;
            }
            let end = |name, mac| VethEnd { name, mac, mtu: wanted.mtu };
            let veth =
                Veth { near: end(HOST, wanted.host_mac), far: end(HOST_PORT, Mac::GATEWAY), far_netns: None };
            let host = netlink.create_veth(&veth).await?;
            tracing::info!(device = HOST, port = HOST_PORT, "made the host's own port");
            (host, netlink.require_link(HOST_PORT).await?)
        }
    };
    // The port first: the host's end has carrier only once both are up.
    let port = adjust(netlink, pair.1, Mac::GATEWAY, wanted.mtu).await?;
    let host = adjust(netlink, pair.0, wanted.host_mac, wanted.mtu).await?;
    Ok((host, port))
}

async fn ensure_vxlan(netlink: &Netlink, wanted: &Wanted<'_>) -> Result<()> {
    // The kernel cannot change a device's port, and tells it only in an attribute that few would look for: the
    // alias keeps it for us, and says to people what the device is.
    let alias = format!("Beeline, VXLAN on UDP port {}", wanted.vxlan_port);
    let mut present = own(netlink, VXLAN, "vxlan").await?;
    if let Some(link) = present.take_if(|link| link.alias.as_ref() != Some(&alias)) {
        netlink.delete_link(link.index).await?;
    }
    let link = if let Some(link) = present {
        link
    } else {
        let vxlan = Vxlan {
            name: VXLAN,
            port: wanted.vxlan_port,
            mtu: wanted.mtu,
            // The kernel drops what carries the device's own MAC as inner source; no pod has the gateway's.
            mac: Mac::GATEWAY,
        };
        let link = netlink.ensure_vxlan(&vxlan).await.map_err(|error| {
            if error.is_exists() {
                return anyhow!(
                    "cannot make {VXLAN}: another vxlan device has UDP port {}; delete that (`ip -d link show type \
                     vxlan`), or choose another port as `vxlanPort` on all nodes",
                    wanted.vxlan_port
                );
            }
            error.into()
        })?;
        netlink.set_alias(link.index, &alias).await?;
        tracing::info!(device = VXLAN, port = %wanted.vxlan_port, "made the vxlan device");
        link
    };
    adjust(netlink, link, Mac::GATEWAY, wanted.mtu).await?;
    Ok(())
}

/// Gives `link` this MAC and MTU, and brings it up.
async fn adjust(netlink: &Netlink, mut link: Link, mac: Mac, mtu: u32) -> Result<Link> {
    if link.mac != Some(mac) {
        netlink.set_mac(link.index, mac).await?;
        link.mac = Some(mac);
    }
    if link.mtu != mtu {
        netlink.set_mtu(link.index, mtu).await?;
        link.mtu = mtu;
    }
    if !link.up {
        netlink.set_addr_gen_none(link.index).await?;
        netlink.set_up(link.index).await?;
        link.up = true;
    }
    Ok(link)
}

async fn ensure_addresses(netlink: &Netlink, host: &Link, gateways: &[IpAddr]) -> Result<()> {
    let wanted: Vec<IpNet> = gateways.iter().map(|&gateway| gateway.into()).collect();
    let present = netlink.addresses(host.index).await?;
    for address in wanted.iter().filter(|address| !present.contains(address)) {
        netlink.add_address(host.index, *address).await?;
    }
    for address in present.iter().filter(|address| !wanted.contains(address) && !ipv6::is_link_local(address))
    {
        netlink.delete_address(host.index, *address).await?;
    }
    Ok(())
}

async fn ensure_neighbours(netlink: &Netlink, host: &Link, gateways: &[IpAddr]) -> Result<()> {
    let present = netlink.neighbours(host.index).await?;
    let next_hops: BTreeSet<IpAddr> = gateways.iter().map(|&gateway| link_gateway(gateway)).collect();
    for address in next_hops {
        let wanted = Neighbour { address, mac: Some(Mac::GATEWAY), permanent: true };
        if !present.contains(&wanted) {
            netlink.set_neighbour(host.index, address, Mac::GATEWAY).await?;
        }
    }
    Ok(())
}
