//! Addresses of links.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

use super::{
    Link, Netlink, NetlinkError,
    error::{absent_is_fine, exists_is_fine},
};

impl Netlink {
    /// Gives the link an address, in use at once. It is no error if it has it.
    pub async fn add_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
        // Links of the pod network have nobody to ask whether an IPv6 address is taken; asking (RFC 4862 §5.4) would
        // keep it from being used for a second or more. It means nothing for IPv4.
        request.message_mut().header.flags.insert(AddressHeaderFlags::Nodad);
        exists_is_fine(request.execute().await.map_err(|e| {
            NetlinkError::new(format!("give the link with index {index} the address {address}"), e)
        }))
    }

    /// Takes an address from the link. It is no error if it has it not.
    pub async fn delete_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
        let message = std::mem::take(request.message_mut());
        let result = self.handle.address().del(message).execute().await;
        absent_is_fine(result.map_err(|e| {
            NetlinkError::new(format!("take the address {address} from the link with index {index}"), e)
        }))
    }

    /// The link's addresses, with the length of their prefix.
    pub async fn addresses(&self, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
        let stream = self.handle.address().get().set_link_index_filter(index).execute();
        let messages: Vec<_> = stream.try_collect().await.map_err(|e| {
            NetlinkError::new(format!("list the addresses of the link with index {index}"), e)
        })?;
        Ok(messages.iter().filter_map(address).collect())
    }

    /// The link that has `wanted` as an address of its own, if one has.
    pub async fn link_with_address(&self, wanted: IpAddr) -> Result<Option<Link>, NetlinkError> {
        let stream = self.handle.address().get().execute();
        let messages: Vec<_> = stream
            .try_collect()
            .await
            .map_err(|e| NetlinkError::new(format!("look for the link that holds {wanted}"), e))?;
        let holds = |message: &&AddressMessage| address(message).is_some_and(|net| net.addr() == wanted);
        match messages.iter().find(holds) {
            Some(message) => self.link_by_index(message.header.index).await,
            None => Ok(None),
        }
    }
}

/// The link's own end: of a point-to-point address, `IFA_LOCAL`; IPv6 otherwise has `IFA_ADDRESS` only.
fn address(message: &AddressMessage) -> Option<IpNet> {
    let own = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(local) => Some(*local),
        _ => None,
    });
    let own = own.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(own, message.header.prefix_len).ok()
}
