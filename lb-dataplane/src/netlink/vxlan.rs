//! The vxlan device in collect-metadata mode (`external`): one device for every VNI and tunnel end, steered
//! by eBPF.

use std::num::NonZeroU16;

use beeline_abi::Mac;
use rtnetlink::{LinkMessageBuilder, LinkVxlan};

use super::{Link, Netlink, NetlinkError};

/// A vxlan device to be made.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan<'a> {
    /// Name.
    pub name: &'a str,
    /// UDP port it listens on and sends to.
    pub port: NonZeroU16,
    /// MTU of what is carried inside, in bytes.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: Mac,
}

impl Netlink {
    /// Makes the device, down, or finds it if a vxlan device of that name is there already (on whatever
    /// port).
    pub async fn ensure_vxlan(&self, vxlan: &Vxlan<'_>) -> Result<Link, NetlinkError> {
        let message = LinkMessageBuilder::<LinkVxlan>::new(vxlan.name)
            .address(vxlan.mac.0.to_vec())
            .mtu(vxlan.mtu)
            .collect_metadata(true)
            .learning(false)
            .port(vxlan.port.get())
            .build();
        if let Err(e) = self.handle.link().add(message).execute().await {
            let (name, port) = (vxlan.name, vxlan.port);
            let error = NetlinkError::new(format!("make the vxlan device {name} on UDP port {port}"), e);
            // The kernel says the same when another device has taken the port.
            return match self.link(vxlan.name).await? {
                Some(link) if error.is_exists() && link.kind.as_deref() == Some("vxlan") => Ok(link),
                _ => Err(error),
            };
        }
        self.require_link(vxlan.name).await
    }
}
