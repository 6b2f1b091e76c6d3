//! The host's routes to pods and VIPs: all by the host's own device, marked as ours by their protocol number.
//!
//! Only routes with that number are ever changed or deleted.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use anyhow::Result;
use ipnet::IpNet;
use lb_dataplane::{Netlink, netlink::Route};

use super::link_gateway;
use crate::model::Network;

/// Beeline's `rtproto`.
pub(crate) const PROTOCOL: u8 = 190;

/// What must change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To be made, or changed into this.
    pub(crate) set: Vec<Route>,
    /// Ours, and not wanted any more.
    pub(crate) delete: Vec<Route>,
    /// Wanted, but somebody else has a route for the very same prefix.
    pub(crate) taken: Vec<Route>,
}

/// The routes that the host needs: every pod prefix, every VIP that Beeline balances, and what stands in for node ports and for
/// its own processes. In a family that the node has no pod prefix of, it has no address to ask from, and needs none. `own` is
/// the node's underlay address, if this machine holds it.
pub(crate) fn wanted(network: &Network, oif: u32, own: Option<Ipv4Addr>) -> Vec<Route> {
    let nodes = std::iter::once(&network.node).chain(&network.peers);
    let pods = nodes.flat_map(|node| &node.pod_cidrs).copied();
    let balanced = network.services.iter().filter(|service| service.dsr);
    let vips = balanced.flat_map(|service| &service.frontends).map(|frontend| IpNet::from(frontend.vip));
    let node_ports = network.node_ports().into_iter().map(|frontend| IpNet::from(frontend.vip));
    let prefixes: BTreeSet<IpNet> = pods.chain(vips).chain(node_ports).collect();
    // A server that has not chosen an address answers this node's processes from the one they asked.
    let loopback =
        own.and_then(|own| Some((IpAddr::from(network.node.service_loopback()?).into(), own.into())));
    let with_source = |to: IpNet| Some((to, network.node.gateway_like(to.addr())?));
    prefixes
        .into_iter()
        .filter_map(with_source)
        .chain(loopback)
        .map(|(to, src): (IpNet, IpAddr)| Route {
            to,
            via: Some(link_gateway(to.addr())),
            oif,
            onlink: true,
            src: Some(src),
            protocol: PROTOCOL,
        })
        .collect()
}

/// Compares what is wanted with all routes that are there.
pub(crate) fn plan(wanted: &[Route], present: &[Route]) -> Plan {
    let mut plan = Plan::default();
    let (ours, others): (Vec<&Route>, Vec<&Route>) =
        present.iter().partition(|route| route.protocol == PROTOCOL);
    let mut ours: HashMap<IpNet, &Route> = ours.into_iter().map(|route| (route.to, route)).collect();
    let others: HashMap<IpNet, &Route> = others.into_iter().map(|route| (route.to, route)).collect();
    for route in wanted {
        match (ours.remove(&route.to), others.get(&route.to)) {
            (Some(present), _) if present == route => {}
            // Replacing goes by prefix, so it could hit the other one.
            (None, Some(other)) => plan.taken.push((*other).clone()),
            _ => plan.set.push(route.clone()),
        }
    }
    plan.delete = ours.into_values().cloned().collect();
    plan.delete.sort_by_key(|route| route.to);
    plan
}

/// Removes every route of ours.
pub(crate) async fn remove(netlink: &Netlink) -> Result<usize> {
    let ours = netlink.routes(Some(PROTOCOL)).await?;
    for route in &ours {
        netlink.delete_route(route).await?;
    }
    Ok(ours.len())
}

/// Says what stands in the way of a route, and the cure.
pub(crate) fn conflict(other: &Route) -> String {
    let to = other.to;
    let ip = if to.addr().is_ipv6() { "ip -6" } else { "ip" };
    format!(
        "the host has a route to {to} already (rtproto {}), so the host does not reach these pods or this VIP; \
         remove it (`{ip} route del {to}`) if it is a leftover",
        other.protocol
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str) -> Route {
        Route {
            to: to.parse().unwrap(),
            via: Some("169.254.1.1".parse().unwrap()),
            oif: 3,
            onlink: true,
            src: Some([10, 244, 1, 1].into()),
            protocol: PROTOCOL,
        }
    }

    #[test]
    fn nothing_changes_when_all_is_there() {
        let wanted = [route("10.244.1.0/24"), route("10.96.0.10/32")];
        let other = Route { protocol: 4, ..route("0.0.0.0/0") };
        let present = [wanted[1].clone(), other, wanted[0].clone()];
        assert_eq!(plan(&wanted, &present), Plan::default());
    }

    #[test]
    fn missing_and_different_ones_are_set_and_leftovers_deleted() {
        let wanted = [route("10.244.1.0/24"), route("10.244.2.0/24")];
        let different = Route { oif: 9, ..route("10.244.2.0/24") };
        let present = [different, route("10.244.3.0/24")];
        let expected = Plan { set: wanted.to_vec(), delete: vec![route("10.244.3.0/24")], taken: vec![] };
        assert_eq!(plan(&wanted, &present), expected);
    }

    #[test]
    fn routes_of_others_are_never_touched() {
        let other = Route { protocol: 4, ..route("10.244.1.0/24") };
        let expected = Plan { taken: vec![other.clone()], ..Plan::default() };
        assert_eq!(plan(&[route("10.244.1.0/24")], &[other]), expected);
        assert!(conflict(&expected.taken[0]).contains("ip route del 10.244.1.0/24"));
    }

    #[test]
    fn the_host_reaches_every_pod_prefix_and_every_vip_that_is_balanced() {
        let network = crate::model::tests::network();
        let routes = wanted(&network, 3, Some(network.node.address));
        let to: Vec<_> = routes.iter().map(|route| route.to.to_string()).collect();
        assert_eq!(to, ["10.96.0.10/32", "10.244.1.0/24", "10.244.2.0/24", "10.244.1.0/32"]);
        assert_eq!(routes[1], route("10.244.1.0/24"));
        let answers = Route { src: Some(network.node.address.into()), ..route("10.244.1.0/32") };
        assert_eq!(routes[3], answers, "a server answers from the address that it was asked at");
        assert_eq!(
            wanted(&network, 3, None),
            routes[..3],
            "nothing can come from an address that nobody holds"
        );
    }

    #[test]
    fn each_family_goes_by_its_own_gateway_and_from_its_own_address() {
        let network = crate::model::tests::dual_stack();
        let routes = wanted(&network, 3, Some(network.node.address));
        let to: Vec<_> = routes.iter().map(|route| route.to.to_string()).collect();
        assert_eq!(to[3..5], ["fd00:10:244:1::/64", "fd00:10:244:2::/64"]);
        let expected = Route {
            via: Some("fe80::1".parse().unwrap()),
            src: Some("fd00:10:244:1::1".parse().unwrap()),
            ..route("fd00:10:244:2::/64")
        };
        assert_eq!(routes[4], expected);
        assert!(conflict(&expected).contains("ip -6 route del fd00:10:244:2::/64"));
    }

    #[test]
    fn a_family_that_the_node_has_no_pods_of_gets_no_routes() {
        let mut network = crate::model::tests::dual_stack();
        network.node.pod_cidrs.pop();
        assert!(
            wanted(&network, 3, Some(network.node.address)).iter().all(|route| route.to.addr().is_ipv4())
        );
    }
}
