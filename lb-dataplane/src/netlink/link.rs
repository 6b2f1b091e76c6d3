//! Links: finding them, changing them, deleting them. Making them is told by kind, in files of their own.

use beeline_abi::Mac;
use futures_util::TryStreamExt;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::net::if_::if_indextoname;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{Netlink, NetlinkError, error::absent_is_fine};

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Link {
    /// Interface index, in its own namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address; `None` if it has another kind of address, or none.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The `ifalias` text.
    pub alias: Option<String>,
    /// Kind of a virtual device: `veth`, `vxlan`, …
    pub kind: Option<String>,
    /// Index of the other end of a veth pair (or of the lower device), in that end's namespace.
    pub peer: Option<u32>,
    /// True if `peer` is in another namespace.
    pub peer_elsewhere: bool,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Link(peer) if peer != 0 => link.peer = Some(peer),
                LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => link.kind = infos.into_iter().find_map(kind),
                _ => {}
            }
        }
        link
    }
}

fn kind(info: LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(InfoKind::to_string(&kind)),
        _ => None,
    }
}

/// Name of the device with index `index` in this thread's namespace, if there is one. A system call, not a request.
#[must_use]
pub fn device_name(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?.into_string().ok()?;
    // For a device that is not there it may also be empty.
    (!name.is_empty()).then_some(name)
}

impl Netlink {
    /// The link called `name`, if there is one.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_name(name);
        found(request, || format!("look up link {name}")).await
    }

    /// The link with index `index`, if there is one.
    pub async fn link_by_index(&self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_index(index);
        found(request, || format!("look up the link with index {index}")).await
    }

    /// The link called `name`; an error if there is none.
    pub async fn require_link(&self, name: &str) -> Result<Link, NetlinkError> {
        self.link(name).await?.ok_or_else(|| NetlinkError::Missing {
            what: format!("look up link {name}"),
            missing: format!("link {name}"),
        })
    }

    /// All links of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links = self.handle.link().get().execute().map_ok(Link::from);
        links.try_collect().await.map_err(|e| NetlinkError::new("list links", e))
    }

    /// Brings the link up.
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        self.change(index, "bring up", LinkMessageBuilder::up).await
    }

    /// Sets the MTU, in bytes.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.change(index, "set the MTU of", |link| link.mtu(mtu)).await
    }

    /// Sets the Ethernet address.
    pub async fn set_mac(&self, index: u32, mac: Mac) -> Result<(), NetlinkError> {
        self.change(index, "set the MAC of", |link| link.address(mac.0.to_vec())).await
    }

    /// Sets the `ifalias` text, which the kernel limits to 255 bytes.
    pub async fn set_alias(&self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        self.change(index, "set the alias of", |link| link.alias(alias)).await
    }

    /// Stops the kernel from giving the link an IPv6 link-local address, and so from sending router
    /// solicitations and multicast reports. To be called before the link is up. A kernel without IPv6 has
    /// nothing to stop.
    pub async fn set_addr_gen_none(&self, index: u32) -> Result<(), NetlinkError> {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let result = self
            .change(index, "switch off IPv6 address generation on", |link| {
                link.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]))
            })
            .await;
        match result {
            Err(e) if e.errno() == Some(libc::EAFNOSUPPORT) => Ok(()),
            other => other,
        }
    }

    /// Deletes the link, and with it a veth's other end. It is no error if it is not there.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        let result = self.handle.link().del(index).execute().await;
        absent_is_fine(
            result.map_err(|e| NetlinkError::new(format!("delete the link with index {index}"), e)),
        )
    }

    /// Deletes the link called `name`, and with it a veth's other end. It is no error if it is not there.
    pub async fn delete_link_named(&self, name: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_name(name).build();
        let result = self.handle.link().del_with_message(message).execute().await;
        absent_is_fine(result.map_err(|e| NetlinkError::new(format!("delete link {name}"), e)))
    }

    async fn change(
        &self,
        index: u32,
        what: &str,
        build: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), NetlinkError> {
        let message = build(LinkUnspec::new_with_index(index)).build();
        let result = self.handle.link().set(message).execute().await;
        result.map_err(|e| NetlinkError::new(format!("{what} the link with index {index}"), e))
    }
}

async fn found(
    request: rtnetlink::LinkGetRequest,
    what: impl Fn() -> String,
) -> Result<Option<Link>, NetlinkError> {
    match request.execute().try_next().await {
        Ok(message) => Ok(message.map(Link::from)),
        Err(e) => match NetlinkError::new(what(), e) {
            e if e.is_absent() => Ok(None),
            e => Err(e),
        },
    }
}
