//! Neighbours that are told instead of asked for: permanent entries, so that no ARP is ever sent.

use std::net::IpAddr;

use beeline_abi::Mac;
use futures_util::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use super::{Netlink, NetlinkError};

/// An entry of a link's neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Whose MAC it tells.
    pub address: IpAddr,
    /// The MAC; `None` while it is not known.
    pub mac: Option<Mac>,
    /// True if it was told for good.
    pub permanent: bool,
}

impl Netlink {
    /// Tells for good that `address` on the link has MAC `mac`, whatever was known before.
    pub async fn set_neighbour(&self, index: u32, address: IpAddr, mac: Mac) -> Result<(), NetlinkError> {
        let request = self.handle.neighbours().add(index, address).link_layer_address(&mac.0).replace();
        request.execute().await.map_err(|e| {
            NetlinkError::new(format!("set the neighbour {address} of the link with index {index}"), e)
        })
    }

    /// The link's neighbours of both families.
    pub async fn neighbours(&self, index: u32) -> Result<Vec<Neighbour>, NetlinkError> {
        let stream = self.handle.neighbours().get().set_address_family(AddressFamily::Unspec).execute();
        let messages: Vec<_> = stream.try_collect().await.map_err(|e| {
            NetlinkError::new(format!("list the neighbours of the link with index {index}"), e)
        })?;
        Ok(messages.iter().filter(|m| m.header.ifindex == index).filter_map(neighbour).collect())
    }
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour { address: address?, mac, permanent: message.header.state == NeighbourState::Permanent })
}
