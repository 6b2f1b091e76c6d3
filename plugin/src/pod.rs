//! What a pod's interface has: its addresses, the ways out, and the neighbours on it. ADD makes it, CHECK looks
//! for it.

use std::{fs, io, net::IpAddr};

use ipnet::IpNet;
use lb_dataplane::{
    Address, Inet4, Inet6, LINK_GATEWAY, LINK_GATEWAY6, Mac, NetNs,
    netlink::{Link, Netlink, Route},
};

use crate::error::{Error, Result};

/// `static` of rtnetlink(7).
const RTPROT_STATIC: u8 = 4;
/// Number of the routing table of a pod's further interface, less the interface's index.
const TABLES: u32 = 1000;

/// What the interface is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wiring {
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where it leads.
    pub(crate) destinations: Vec<IpNet>,
}

impl Wiring {
    /// For `addresses`, leading to `destinations`; to anywhere if there are none.
    pub(crate) fn new(addresses: Vec<IpAddr>, mut destinations: Vec<IpNet>) -> Self {
        if destinations.is_empty() {
            let families = [true, false].into_iter();
            let first = families.filter_map(|v4| addresses.iter().find(|address| address.is_ipv4() == v4));
            destinations = first.map(|address| anywhere(*address)).collect();
        }
        Self { addresses, destinations }
    }

    /// The routes by link `oif` that an address of this family needs: to the gateway on the link, and through it to
    /// the destinations.
    fn routes(&self, address: IpAddr, oif: u32) -> Vec<Route> {
        let gateway = gateway(address);
        let on_link =
            Route { to: network(gateway), via: None, oif, onlink: false, src: None, protocol: RTPROT_STATIC };
        let through =
            |to: &IpNet| Route { to: to.trunc(), via: Some(gateway), onlink: true, ..on_link.clone() };
        let of_family = self.destinations.iter().filter(|to| to.addr().is_ipv4() == address.is_ipv4());
        let through: Vec<_> = of_family.map(through).collect();
        std::iter::once(on_link).chain(through).collect()
    }
}

/// As set on the interface and told to the runtime: each pod is alone on its link, so its subnet is itself.
pub(crate) fn network(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// The next hop of all that a pod sends.
pub(crate) fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => LINK_GATEWAY.into(),
        IpAddr::V6(_) => LINK_GATEWAY6.into(),
    }
}

fn anywhere(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// The MAC that every node derives for a pod with these addresses: from the first IPv4 address, else from the first.
pub(crate) fn mac(addresses: &[IpAddr]) -> Option<Mac> {
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first())?;
    Some(match first {
        IpAddr::V4(address) => Inet4::from(*address).mac(),
        IpAddr::V6(address) => Inet6::from(*address).mac(),
    })
}

/// Sets what IPv6 on the interface must not do by itself, whatever the namespace's defaults are: be switched off, or
/// believe whoever calls himself a router.
pub(crate) fn prepare_ipv6(netns: &NetNs, ifname: &str) -> Result<()> {
    netns.run(|| {
        for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")] {
            let path = format!("/proc/sys/net/ipv6/conf/{ifname}/{setting}");
            match fs::write(&path, value) {
                // A kernel without IPv6 refuses the address, and says so better.
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("cannot set {path} to {value} in the pod"), &e));
                }
                _ => {}
            }
        }
        Ok(())
    })?
}

/// Keeps the host's own IPv6 off port `ifname`: a host that forwards would announce on it, and so to the pod, which groups
/// it is in. What passes there is the dataplane's alone.
pub(crate) fn silence_port(ifname: &str) {
    // Where this cannot be set, the pod hears an announcement, and takes no harm.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6"), "1");
}

/// Gives the pod's interface what it can have while it is down.
pub(crate) async fn prepare(inside: &Netlink, link: &Link, wiring: &Wiring) -> Result<()> {
    inside.set_addr_gen_none(link.index).await?;
    for address in &wiring.addresses {
        inside.add_address(link.index, network(*address)).await?;
    }
    Ok(())
}

/// Brings the pod's interface up and gives it the rest. True if another interface of the pod leads to the same
/// destinations already: then this one has a routing table of its own, for what is sent from its addresses.
///
/// The port must be up: whichever end comes up last can send at once, the other only when the kernel gets round to it.
pub(crate) async fn connect(inside: &Netlink, link: &Link, wiring: &Wiring) -> Result<bool> {
    let mut further = false;
    inside.set_up(link.index).await?;
    for address in one_of_each_family(wiring) {
        inside.set_neighbour(link.index, gateway(address), Mac::GATEWAY).await?;
        let mut taken = false;
        for route in wiring.routes(address, link.index) {
            taken |= !inside.add_route(&route).await?;
        }
        if taken {
            own_table(inside, link, wiring, address).await?;
            further = true;
        }
    }
    Ok(further)
}

/// Gives what is sent from addresses of this one's family a table of its own.
async fn own_table(inside: &Netlink, link: &Link, wiring: &Wiring, family: IpAddr) -> Result<()> {
    let table = TABLES + link.index;
    for route in wiring.routes(family, link.index) {
        inside.add_route_to_table(&route, table).await?;
    }
    for address in wiring.addresses.iter().filter(|address| address.is_ipv4() == family.is_ipv4()) {
        inside.add_rule_from(network(*address), table).await?;
    }
    Ok(())
}

/// Removes what [`connect`] made for a further interface and that does not go with the interface.
pub(crate) async fn disconnect(inside: &Netlink, addresses: &[IpAddr]) -> Result<()> {
    for address in addresses {
        inside.delete_rules_from(network(*address)).await?;
    }
    Ok(())
}

fn one_of_each_family(wiring: &Wiring) -> Vec<IpAddr> {
    let ipv4 = wiring.addresses.iter().find(|address| address.is_ipv4());
    let ipv6 = wiring.addresses.iter().find(|address| address.is_ipv6());
    ipv4.into_iter().chain(ipv6).copied().collect()
}

/// What the pod's interface lacks of what ADD gave it, in words.
pub(crate) async fn missing(inside: &Netlink, link: &Link, wiring: &Wiring) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let name = &link.name;
    if !link.up {
        missing.push(format!("{name} is down"));
    }
    let present = inside.addresses(link.index).await?;
    let lacking =
        wiring.addresses.iter().map(|address| network(*address)).filter(|net| !present.contains(net));
    missing.extend(lacking.map(|network| format!("{name} has no address {network}")));
    let main = inside.routes(None).await?;
    let own = inside.routes_of_table(TABLES + link.index).await?;
    let neighbours = inside.neighbours(link.index).await?;
    for address in one_of_each_family(wiring) {
        for wanted in wiring.routes(address, link.index) {
            // Who made a route, and how it was flagged, changes nothing in where it leads.
            let leads =
                |route: &Route| route.to == wanted.to && route.oif == wanted.oif && route.via == wanted.via;
            if !main.iter().any(leads) && !own.iter().any(leads) {
                missing.push(format!("{name} has no route to {}", wanted.to));
            }
        }
        let gateway = gateway(address);
        let told =
            neighbours.iter().any(|n| n.address == gateway && n.mac == Some(Mac::GATEWAY) && n.permanent);
        if !told {
            missing.push(format!("{name} has no permanent neighbour {gateway}"));
        }
    }
    if !own.is_empty() {
        let rules = inside.sources_of_table(TABLES + link.index).await?;
        let unruled = |address: &&IpAddr| {
            own.iter().any(|route| route.to.addr().is_ipv4() == address.is_ipv4())
                && !rules.contains(&network(**address))
        };
        let lacking = wiring.addresses.iter().filter(unruled);
        missing.extend(lacking.map(|address| format!("{name} has no rule for what is sent from {address}")));
    }
    Ok(missing)
}
