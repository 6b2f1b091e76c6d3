//! veth pairs: both ends made by one request, each with its final name, MTU and MAC, the peer already in its
//! namespace.

use std::os::fd::AsRawFd;

use beeline_abi::Mac;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Link, Netlink, NetlinkError};
use crate::netns::NetNs;

/// One end of a pair.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Name.
    pub name: &'a str,
    /// Ethernet address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
}

/// A pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// The end in the socket's own namespace.
    pub near: VethEnd<'a>,
    /// The other end.
    pub far: VethEnd<'a>,
    /// The other end's namespace; `None` for the socket's own.
    pub far_netns: Option<&'a NetNs>,
}

impl Netlink {
    /// Makes the pair, both ends down, and returns its near end. A failure, such as for a name that is taken,
    /// leaves nothing.
    pub async fn create_veth(&self, veth: &Veth<'_>) -> Result<Link, NetlinkError> {
        let mut far = describe(LinkMessageBuilder::<LinkUnspec>::new(), &veth.far);
        if let Some(netns) = veth.far_netns {
            far = far.setns_by_fd(netns.as_raw_fd());
        }
        let near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth);
        let pair = describe(near, &veth.near).set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())));
        let result = self.handle.link().add(pair.build()).execute().await;
        result.map_err(|e| {
            let (near, far) = (veth.near.name, veth.far.name);
            NetlinkError::new(format!("make the veth pair {near} / {far}"), e)
        })?;
        let made = self.require_link(veth.near.name).await;
        if made.is_err() {
            // The caller does not know that the pair is there. If it cannot be deleted, the first error still
            // tells more.
            let _ = self.delete_link_named(veth.near.name).await;
        }
        made
    }
}

fn describe<T>(link: LinkMessageBuilder<T>, end: &VethEnd<'_>) -> LinkMessageBuilder<T> {
    link.name(end.name).address(end.mac.0.to_vec()).mtu(end.mtu)
}
