//! Guard: a pod may send only from its own address and MAC, and may not speak VXLAN to nodes.
//!
//! An established flow carries the port and MAC its packets must come from; this is the check for new ones.

use beeline_abi::{Address, Be16, Drop, EndpointKey, FlowKey, Node, RouteKey, Vni};

use crate::{
    family::{Family, Packet, UDP},
    maps::Tables,
    skb::Skb,
};

/// Who sends from a port.
#[derive(Clone, Copy, PartialEq)]
pub enum Origin {
    /// A pod.
    Pod,
    /// The host, which is trusted: it forwards for others too.
    Host,
}

/// Says who sends `packet`, or why he may not.
#[inline(always)]
pub fn check<F: Family>(skb: Skb, node: &Node, vni: Vni, packet: &Packet<F::Addr>) -> Result<Origin, Drop> {
    if skb.ifindex() == node.host_port_ifindex {
        return Ok(Origin::Host);
    }
    let endpoint =
        F::Addr::find_endpoint(&EndpointKey::new(vni, packet.key.src)).ok_or(Drop::ForgedSource)?;
    if endpoint.ifindex != skb.ifindex() || endpoint.is_host() {
        return Err(Drop::ForgedSource);
    }
    if endpoint.mac != packet.src_mac {
        return Err(Drop::ForgedMac);
    }
    Ok(Origin::Pod)
}

/// Refuses what comes from the underlay outside VXLAN and claims to be from a pod: the host would forward it to
/// pods as if that pod had sent it, unless it filters reverse paths strictly.
#[inline(always)]
pub fn check_underlay<F: Family>(skb: Skb, vni: Vni) -> Result<(), Drop> {
    let Some(source) = F::source(skb) else {
        return Ok(());
    };
    let is_pod = F::Addr::find_endpoint(&EndpointKey::new(vni, source))
        .is_some_and(|endpoint| !endpoint.is_host())
        || F::Addr::find_route(RouteKey::new(vni, source)).is_some();
    if is_pod { Err(Drop::SpoofedPod) } else { Ok(()) }
}

/// True for a pod's packet that must not go on to the host's stack: UDP to the VXLAN port, before or after a
/// rewrite to `port`. The host would masquerade it, and whichever node it reaches could take it for a peer's.
#[inline(always)]
pub fn is_vxlan<A: Address>(node: &Node, key: &FlowKey<A>, port: Be16) -> bool {
    key.protocol() == UDP && (key.dst_port == node.vxlan_port || port == node.vxlan_port)
}
