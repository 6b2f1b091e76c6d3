//! Forward: finds where a destination is, and sends packets there.

use beeline_abi::{Action, Address, Drop, EndpointKey, Flow, Hop, Mac, Node, Rewrite, RouteKey, Vni};

use crate::{
    Verdict, count,
    family::{ETHERNET_LEN, Family, Packet, TCP, UDP},
    flow,
    guard::Origin,
    maps::Tables,
    rewrite,
    skb::{Skb, redirect_to_ingress, redirect_to_neighbour, redirect_to_peer},
    vxlan,
};

/// Where a destination is. Fields are as in [`Flow`].
pub struct Target {
    pub action: Action,
    pub ifindex: u32,
    pub vtep: u32,
    pub next_hop: u32,
    pub dst_mac: Mac,
    pub src_mac: Mac,
}

impl Target {
    /// The node whose own process `reply` answers.
    #[inline(always)]
    pub fn asker<A: Address>(node: &Node, reply: &Flow<A>) -> Self {
        Self {
            action: Action::ToOverlay,
            ifindex: node.uplink_ifindex,
            vtep: reply.to_vtep,
            next_hop: reply.next_hop,
            dst_mac: reply.dst_mac,
            src_mac: reply.src_mac,
        }
    }

    /// This node's own stack.
    #[inline(always)]
    pub fn host(node: &Node) -> Self {
        Self {
            action: Action::ToHost,
            ifindex: node.host_ifindex,
            vtep: 0,
            next_hop: 0,
            dst_mac: node.host_mac,
            src_mac: Mac::GATEWAY,
        }
    }
}

/// Finds `destination`: an endpoint of this node, a pod prefix of another, or whatever the host's routes say. `balanced` if a
/// service chose it.
#[inline(always)]
pub fn resolve<F: Family>(
    node: &Node,
    vni: Vni,
    source: F::Addr,
    destination: F::Addr,
    origin: Origin,
    balanced: bool,
) -> Result<Target, Drop> {
    if let Some(endpoint) = F::Addr::find_endpoint(&EndpointKey::new(vni, destination)) {
        let mut target = Target::host(node);
        target.ifindex = endpoint.ifindex;
        target.dst_mac = endpoint.mac;
        if !endpoint.is_host() {
            target.action = Action::ToPod;
        }
        return Ok(target);
    }
    if let Some(route) = F::Addr::find_route(RouteKey::new(vni, destination)) {
        return Ok(Target {
            action: Action::ToOverlay,
            ifindex: node.uplink_ifindex,
            vtep: route.vtep,
            next_hop: route.next_hop,
            dst_mac: if route.mac == Mac::NONE { destination.mac() } else { route.mac },
            src_mac: source.mac(),
        });
    }
    // What came from the host's routes would go round for ever, unless it is for somebody else now.
    if origin == Origin::Host && !balanced { Err(Drop::NoRoute) } else { Ok(Target::host(node)) }
}

/// Sends a port's packet where `flow` says.
#[inline(always)]
pub fn send<F: Family>(
    skb: Skb,
    node: &Node,
    packet: &Packet<F::Addr>,
    flow: &Flow<F::Addr>,
) -> Result<Verdict, Drop> {
    let action = flow::action(flow);
    let routed = action != Action::ToHost;
    if routed && packet.ttl <= 1 {
        return Err(Drop::TtlExceeded);
    }
    if action == Action::ToOverlay && is_too_big(skb, node, packet) {
        return Err(Drop::PacketTooBig);
    }
    let bytes = u64::from(skb.len());
    count::service(flow.service, |stats| {
        if flow.rewrite == Rewrite::Source as u8 {
            stats.replies_undone += 1;
        } else if routed {
            stats.packets += 1;
            stats.bytes += bytes;
        } else {
            stats.via_host += 1;
        }
    });
    rewrite::apply::<F>(skb, node, packet, packet.l4(), flow, routed)?;
    match action {
        Action::ToPod => {
            rewrite::macs(skb, flow)?;
            count::hop(Hop::PortToPort);
            Ok(redirect_to_peer(flow.to_ifindex))
        }
        Action::ToOverlay => {
            vxlan::encapsulate(skb, node, flow)?;
            count::hop(Hop::PortToOverlay);
            Ok(redirect_to_neighbour(flow.to_ifindex, flow.next_hop))
        }
        Action::ToHost => {
            rewrite::macs(skb, flow)?;
            count::hop(Hop::PortToHost);
            Ok(redirect_to_ingress(flow.to_ifindex))
        }
    }
}

/// True if `packet`, or each of those that it is to be cut into (GSO), is larger than the overlay carries.
#[inline(always)]
fn is_too_big<A: Tables>(skb: Skb, node: &Node, packet: &Packet<A>) -> bool {
    let length = skb.len().wrapping_sub(ETHERNET_LEN as u32);
    if length <= node.overlay_mtu {
        return false;
    }
    if !skb.is_gso() {
        return true;
    }
    let l4 = packet.l4();
    let header = match packet.key.protocol() {
        TCP => u32::from(skb.read::<u8>(l4 + 12).unwrap_or(0) >> 4) * 4,
        UDP => 8,
        // SCTP's are as long as its chunks make them.
        _ => return false,
    };
    (l4 - ETHERNET_LEN) as u32 + header + skb.segment() > node.overlay_mtu
}

/// Delivers a packet from the overlay, now without its outer headers, to the endpoint that `flow` says.
#[inline(always)]
pub fn deliver<F: Family>(
    skb: Skb,
    node: &Node,
    packet: &Packet<F::Addr>,
    l4: usize,
    flow: &Flow<F::Addr>,
    (to_port, to_host): (Hop, Hop),
) -> Result<Verdict, Drop> {
    if flow.rewrite == Rewrite::Source as u8 {
        count::service(flow.service, |stats| stats.replies_undone += 1);
    }
    rewrite::apply::<F>(skb, node, packet, l4, flow, false)?;
    rewrite::macs(skb, flow)?;
    if flow::action(flow) == Action::ToPod {
        skb.take_as_ours();
        count::hop(to_port);
        Ok(redirect_to_peer(flow.to_ifindex))
    } else {
        count::hop(to_host);
        Ok(redirect_to_ingress(flow.to_ifindex))
    }
}
