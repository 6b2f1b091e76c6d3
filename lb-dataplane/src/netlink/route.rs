//! Routes of the main table, and the kernel's own choice of a way to an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};

use super::{
    Netlink, NetlinkError,
    error::{absent_is_fine, exists_is_fine},
};

/// A unicast route of the main table with one next hop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Prefix it is for.
    pub to: IpNet,
    /// Next hop; `None` if the prefix is on the link itself (scope link).
    pub via: Option<IpAddr>,
    /// Index of the device it goes by.
    pub oif: u32,
    /// Take the next hop to be on the device, whatever the other routes say.
    pub onlink: bool,
    /// Source address of what this host itself sends by it.
    pub src: Option<IpAddr>,
    /// Who made it: `rtproto` of rtnetlink(7), by which it is found again. 4 is `static`.
    pub protocol: u8,
}

/// The way the kernel would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Index of the device it goes by.
    pub oif: u32,
    /// Next hop; `None` if the address is on the link.
    pub via: Option<IpAddr>,
    /// Source address the kernel would choose.
    pub src: Option<IpAddr>,
    /// True if the address is this host's own.
    pub local: bool,
}

impl Netlink {
    /// Makes the route, unless there is one for the same prefix, by whatever way; tells which.
    pub async fn add_route(&self, route: &Route) -> Result<bool, NetlinkError> {
        let result = self.handle.route().add(message(route)).execute().await;
        match result.map_err(|e| NetlinkError::new(format!("add the route to {}", route.to), e)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_exists() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes the route in `table` in place of the main one. It is no error if one for the same prefix is there.
    pub async fn add_route_to_table(&self, route: &Route, table: u32) -> Result<(), NetlinkError> {
        let mut message = message(route);
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.attributes.push(RouteAttribute::Table(table));
        let result = self.handle.route().add(message).execute().await;
        let what = || format!("add the route to {} to table {table}", route.to);
        exists_is_fine(result.map_err(|e| NetlinkError::new(what(), e)))
    }

    /// Makes the route, or changes the one for the same prefix into it.
    pub async fn replace_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let result = self.handle.route().add(message(route)).replace().execute().await;
        result.map_err(|e| NetlinkError::new(format!("set the route to {}", route.to), e))
    }

    /// Deletes the route. It is no error if it is not there.
    pub async fn delete_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let result = self.handle.route().del(message(route)).execute().await;
        absent_is_fine(result.map_err(|e| NetlinkError::new(format!("delete the route to {}", route.to), e)))
    }

    /// Routes of both families made by `protocol`; by anybody if `None`. Those with several next hops, or
    /// none, are left out.
    pub async fn routes(&self, protocol: Option<u8>) -> Result<Vec<Route>, NetlinkError> {
        let main = RouteHeader::RT_TABLE_MAIN.into();
        let routes = self.routes_of_table(main).await?;
        Ok(routes
            .into_iter()
            .filter(|route| protocol.is_none_or(|wanted| route.protocol == wanted))
            .collect())
    }

    /// As [`Self::routes`], of `table` in place of the main one, whoever made them.
    pub async fn routes_of_table(&self, table: u32) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let mut stream = Box::pin(self.handle.route().get(request).execute());
            while let Some(found) =
                stream.try_next().await.map_err(|e| NetlinkError::new("list routes", e))?
            {
                // A kernel without the family answers for all families.
                if found.header.address_family == family {
                    routes.extend(route(&found, table));
                }
            }
        }
        Ok(routes)
    }

    /// The way the kernel would send a packet to `address` now; `None` if it has none.
    pub async fn route_to(&self, address: IpAddr) -> Result<Option<NextHop>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(address);
        request.header.destination_prefix_length = IpNet::from(address).prefix_len();
        request.attributes.push(RouteAttribute::Destination(address.into()));
        let mut stream = Box::pin(self.handle.route().get(request).execute());
        match stream.try_next().await {
            Ok(found) => Ok(found.as_ref().and_then(next_hop)),
            Err(e) => match NetlinkError::new(format!("look up the route to {address}"), e) {
                e if matches!(e.errno(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ESRCH)) => {
                    Ok(None)
                }
                e => Err(e),
            },
        }
    }
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.to.addr());
    header.destination_prefix_length = route.to.prefix_len();
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::from(route.protocol);
    header.kind = RouteType::Unicast;
    header.scope = if route.via.is_some() { RouteScope::Universe } else { RouteScope::Link };
    if route.onlink {
        header.flags.insert(RouteFlags::Onlink);
    }
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(route.to.network().into()));
    attributes.push(RouteAttribute::Oif(route.oif));
    attributes.extend(route.via.map(|via| RouteAttribute::Gateway(via.into())));
    attributes.extend(route.src.map(|src| RouteAttribute::PrefSource(src.into())));
    message
}

fn route(message: &RouteMessage, wanted: u32) -> Option<Route> {
    let header = &message.header;
    let table = attribute(message, |a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let table = table.unwrap_or(header.table.into());
    if header.kind != RouteType::Unicast || table != wanted {
        return None;
    }
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let to = attribute(message, |a| match a {
        RouteAttribute::Destination(to) => ip(to),
        _ => None,
    });
    Some(Route {
        to: IpNet::new(to.unwrap_or(any), header.destination_prefix_length).ok()?,
        via: via(message),
        oif: oif(message)?,
        onlink: header.flags.contains(RouteFlags::Onlink),
        src: src(message),
        protocol: header.protocol.into(),
    })
}

fn next_hop(message: &RouteMessage) -> Option<NextHop> {
    Some(NextHop {
        oif: oif(message)?,
        via: via(message),
        src: src(message),
        local: message.header.kind == RouteType::Local,
    })
}

fn attribute<T>(message: &RouteMessage, pick: impl Fn(&RouteAttribute) -> Option<T>) -> Option<T> {
    message.attributes.iter().find_map(pick)
}

fn oif(message: &RouteMessage) -> Option<u32> {
    attribute(message, |a| match a {
        RouteAttribute::Oif(oif) => Some(*oif),
        _ => None,
    })
}

fn via(message: &RouteMessage) -> Option<IpAddr> {
    attribute(message, |a| match a {
        RouteAttribute::Gateway(via) => ip(via),
        _ => None,
    })
}

fn src(message: &RouteMessage) -> Option<IpAddr> {
    attribute(message, |a| match a {
        RouteAttribute::PrefSource(src) => ip(src),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
