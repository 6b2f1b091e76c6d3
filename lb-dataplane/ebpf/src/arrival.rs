//! The arrival's walk: what becomes of a packet that another node sends over the overlay.
//!
//! [`from_uplink`] → [`vxlan::recognize`] → `parse` → [`flow::find`]; a new flow is [`open`]ed: the peer and its
//! right to the inner source are checked, the endpoint is found, the flow kept; then [`vxlan::decapsulate`] and
//! [`forward::deliver`], which undoes a flow pair's rewrite on the way.

use beeline_abi::{Action, Address, Be16, Drop, EndpointKey, Flow, FlowKey, Hop, Node, RouteKey, Vni};

use crate::{
    Stop, Verdict,
    family::{Family, Packet, UDP},
    finish,
    flow::{self, From, State},
    forward, fragments, guard, icmp,
    ipv4::Ipv4,
    ipv6::Ipv6,
    maps::{self, Scratch, Tables},
    skb::Skb,
    vxlan::{self, Arrived, OVERHEAD},
};

/// Ingress of the uplink.
#[inline(always)]
pub fn from_uplink(skb: Skb) -> Result<Verdict, Stop> {
    if skb.has_vlan_tag() {
        return Err(Stop::Next);
    }
    // Before the agent has set the node up, nothing that comes in can be ours; all of it may be the node's.
    let Ok((node, vni)) = maps::node() else {
        return Err(Stop::Next);
    };
    match skb.protocol() {
        Ipv4::ETHERTYPE => {}
        Ipv6::ETHERTYPE => {
            skb.pull(Ipv6::HEADERS_LEN);
            guard::check_underlay::<Ipv6>(skb, vni)?;
            return Err(Stop::Next);
        }
        _ => return Err(Stop::Next),
    }
    match vxlan::recognize(skb, node)? {
        Some(arrived) => dispatch(skb, node, &arrived, Way::Uplink),
        None => {
            guard::check_underlay::<Ipv4>(skb, vni)?;
            Err(Stop::Next)
        }
    }
}

/// Ingress of the kernel's vxlan device, which has taken the outer headers off.
#[inline(always)]
pub fn from_overlay(skb: Skb) -> Result<Verdict, Stop> {
    let (node, _) = maps::node()?;
    let (tunnel_vni, vtep) = skb.tunnel().ok_or(Drop::UnknownVtep)?;
    if tunnel_vni != node.vni {
        return Err(Drop::UnknownVni.into());
    }
    dispatch(skb, node, &Arrived { l2: 0, vtep }, Way::Overlay)
}

/// By which device a packet arrived.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// The uplink, still wrapped.
    Uplink,
    /// The kernel's vxlan device, unwrapped.
    Overlay,
}

#[inline(always)]
fn dispatch(skb: Skb, node: &Node, arrived: &Arrived, way: Way) -> Result<Verdict, Stop> {
    match skb.read::<Be16>(arrived.l2 + 12)? {
        Ipv4::ETHERTYPE => Ok(walk::<Ipv4>(skb, node, arrived, way)),
        Ipv6::ETHERTYPE => Ok(walk::<Ipv6>(skb, node, arrived, way)),
        _ => Err(Drop::NotIp.into()),
    }
}

/// A function of its own for each family, and so with a stack of its own: one does not hold both.
#[inline(never)]
fn walk<F: Family>(skb: Skb, node: &Node, arrived: &Arrived, way: Way) -> Verdict {
    finish(try_walk::<F>(skb, node, arrived, way))
}

#[inline(always)]
fn try_walk<F: Family>(skb: Skb, node: &Node, arrived: &Arrived, way: Way) -> Result<Verdict, Stop> {
    let vni = Vni::new(node.vni).ok_or(Drop::NotReady)?;
    skb.pull(arrived.l2 as u32 + F::HEADERS_LEN);
    let mut packet = F::parse(skb, arrived.l2, vni)?;
    icmp::relate::<F>(skb, &mut packet, From::Overlay(arrived.vtep));
    // Only the kernel's own device can take the mark of a tunnel off a packet that is still to be cut (6.18's
    // `bpf_skb_adjust_room` cannot), and UDP, unlike TCP, cuts by it. Such packets come over virtual links only.
    if way == Way::Uplink && skb.is_gso() && packet.key.protocol() == UDP {
        return Err(Stop::Next);
    }
    let Scratch { flow, known, reply_key, reply, .. } = F::Addr::scratch()?;
    let answer = (&mut *reply_key, reply);
    match flow::find::<F>(skb, &packet, From::Overlay(arrived.vtep), flow, answer.0) {
        State::Current => {}
        State::Stale => {
            *known = *flow;
            open::<F>(node, vni, &packet, arrived.vtep, Some(known), flow, answer)?;
        }
        State::New => open::<F>(node, vni, &packet, arrived.vtep, None, flow, answer)?,
    }
    fragments::remember(vni, &packet);
    unwrap::<F>(skb, node, &packet, flow, way)
}

#[inline(always)]
fn unwrap<F: Family>(
    skb: Skb,
    node: &Node,
    packet: &Packet<F::Addr>,
    flow: &Flow<F::Addr>,
    way: Way,
) -> Result<Verdict, Stop> {
    match way {
        Way::Uplink => {
            // Before Linux 6.3 only its own device takes IPv6 out of IPv4.
            vxlan::decapsulate::<F>(skb).map_err(|reason| match F::DECAPSULATE {
                0 => reason.into(),
                _ => Stop::Next,
            })?;
            let hops = (Hop::UplinkToPort, Hop::UplinkToHost);
            // As a byte: the verifier must see that it is not negative.
            let l4 = usize::from((packet.l4() - OVERHEAD) as u8);
            Ok(forward::deliver::<F>(skb, node, packet, l4, flow, hops)?)
        }
        Way::Overlay => {
            let hops = (Hop::OverlayToPort, Hop::OverlayToHost);
            Ok(forward::deliver::<F>(skb, node, packet, packet.l4(), flow, hops)?)
        }
    }
}

/// Decides what becomes of a flow that arrives, and remembers it.
#[inline(always)]
fn open<F: Family>(
    node: &Node,
    vni: Vni,
    packet: &Packet<F::Addr>,
    vtep: u32,
    known: Option<&Flow<F::Addr>>,
    flow: &mut Flow<F::Addr>,
    (reply_key, reply): (&mut FlowKey<F::Addr>, &mut Flow<F::Addr>),
) -> Result<(), Drop> {
    flow::begin(flow, packet, From::Overlay(vtep), 0);
    let key = &packet.key;
    if !maps::is_peer(vtep) {
        return Err(Drop::UnknownVtep);
    }
    // A node's own process may ask from that node's underlay address.
    let from_peer_itself = key.src.is_ipv4(vtep);
    if !from_peer_itself
        && F::Addr::find_route(RouteKey::new(vni, key.src)).is_none_or(|route| route.vtep != vtep)
    {
        return Err(Drop::ForgedInnerSource);
    }
    let endpoint = F::Addr::find_endpoint(&EndpointKey::new(vni, key.dst)).ok_or(Drop::NoEndpoint)?;
    let mut to_host = endpoint.is_host();
    if from_peer_itself && to_host {
        // Among themselves nodes need no overlay, and would answer past it.
        return Err(Drop::ForgedInnerSource);
    }
    if let Some(known) = known
        && known.forward == 1
    {
        flow.midway = known.midway;
    }
    if let Some(reply) = known
        && reply.forward == 0
        && flow::holds::<F>(reply, vni)
    {
        flow::carry_on(flow, reply);
        to_host |= flow::action(reply) == Action::ToHost;
    }
    // The overlay leads to the node's place in the overlay; to its underlay address only replies.
    if endpoint.is_host() && key.dst.is_ipv4(node.vtep) && flow.forward == 1 {
        return Err(Drop::NoEndpoint);
    }
    let (action, ifindex, mac) = if to_host {
        (Action::ToHost, node.host_ifindex, node.host_mac)
    } else {
        (Action::ToPod, endpoint.ifindex, endpoint.mac)
    };
    flow.action = action as u8;
    flow.to_ifindex = ifindex;
    flow.dst_mac = mac;
    if from_peer_itself && flow.forward == 1 {
        keep_reply_half::<F>(node, packet, vtep, flow, known.is_some(), (reply_key, reply))?;
    }
    // A packet can go on without this entry, so a full table costs it speed and nothing else.
    let _ = F::Addr::keep_flow(key, flow);
    Ok(())
}

/// Keeps the half that a pod's replies to another node's own process will find: no route leads to that node's underlay
/// address in the overlay, and by way of this host they would come from elsewhere.
#[inline(always)]
fn keep_reply_half<F: Family>(
    node: &Node,
    packet: &Packet<F::Addr>,
    vtep: u32,
    flow: &Flow<F::Addr>,
    is_known: bool,
    (reply_key, reply): (&mut FlowKey<F::Addr>, &mut Flow<F::Addr>),
) -> Result<(), Drop> {
    let key = &packet.key;
    *reply_key = key.reversed();
    *reply = *flow;
    if is_known && let Some(there) = F::Addr::find_flow(reply_key) {
        // SAFETY: map values stay valid for the whole run.
        let there = unsafe { &*there };
        if there.forward == 1 {
            // The pod has begun a flow of its own by this name.
            return Ok(());
        }
        // How far the pod has come is its own affair.
        reply.tcp_state = there.tcp_state;
    }
    reply.forward = 0;
    reply.action = Action::ToOverlay as u8;
    reply.to_ifindex = node.uplink_ifindex;
    reply.to_vtep = vtep;
    reply.next_hop = 0;
    // Whoever sent it takes what is for its own MAC.
    (reply.dst_mac, reply.src_mac) = (packet.src_mac, key.dst.mac());
    (reply.src, reply.src_port) = (key.dst, key.dst_port);
    (reply.dst, reply.dst_port) = (key.src, key.src_port);
    (reply.from_ifindex, reply.from_mac, reply.from_vtep) = (flow.to_ifindex, flow.dst_mac, 0);
    F::Addr::keep_flow(reply_key, reply)
}
