//! A port's walk: what becomes of a packet that a pod (or the host, as one more pod) sends.
//!
//! [`from_port`] → `parse` → [`flow::find`]; a new flow is [`open`]ed: [`guard::check`] → [`lb::choose`] →
//! [`forward::resolve`] → both halves kept; then [`forward::send`].

use beeline_abi::{Action, Address, Drop, Flow, FlowKey, Mac, Node, Rewrite, Vni};

use crate::{
    Stop, Verdict, answer, count,
    family::{Family, Packet, SCTP, TCP, UDP, tcp_flags},
    flow::{self, From, State},
    forward::{self, Target},
    fragments,
    guard::{self, Origin},
    icmp,
    ipv4::Ipv4,
    ipv6::Ipv6,
    lb::{self, Choice},
    maps::{self, Scratch, Tables},
    skb::Skb,
};

/// Ingress of a port.
#[inline(always)]
pub fn from_port(skb: Skb) -> Result<Verdict, Stop> {
    let (node, vni) = maps::node()?;
    if skb.has_vlan_tag() {
        return Err(Drop::VlanTagged.into());
    }
    match skb.protocol() {
        Ipv4::ETHERTYPE => Ok(walk::<Ipv4>(skb, node, vni)),
        Ipv6::ETHERTYPE => Ok(walk::<Ipv6>(skb, node, vni)),
        _ => Err(Drop::NotIp.into()),
    }
}

/// Each step is a function of its own, and so with a stack of its own: one does not hold them all. What one finds out it
/// leaves in this CPU's [`Scratch`] for the next.
#[inline(always)]
fn walk<F: Family>(skb: Skb, node: &Node, vni: Vni) -> Verdict {
    match try_walk::<F>(skb, node, vni) {
        Ok(verdict) => verdict,
        Err(reason) => answer::refuse::<F>(skb, node, reason),
    }
}

/// Reads the packet.
#[inline(never)]
fn read<F: Family>(skb: Skb, vni: Vni) -> Result<(), Drop> {
    skb.pull(F::HEADERS_LEN);
    let packet = F::parse(skb, 0, vni)?;
    let scratch = F::Addr::scratch()?;
    scratch.packet = packet;
    icmp::relate::<F>(skb, &mut scratch.packet, From::Port);
    Ok(())
}

/// Finds its flow.
#[inline(never)]
fn find<F: Family>(skb: Skb) -> Result<(), Drop> {
    let scratch = F::Addr::scratch()?;
    let packet = scratch.packet;
    let Scratch { flow, known, reply_key, .. } = scratch;
    let state = flow::find::<F>(skb, &packet, From::Port, flow, reply_key);
    if state == State::Stale {
        *known = *flow;
    }
    scratch.state = state as u32;
    Ok(())
}

/// The long way, for a packet whose flow does not say all.
#[inline(never)]
fn decide<F: Family>(skb: Skb, node: &Node, vni: Vni) -> Result<(), Drop> {
    // Nobody writes to the packet from here on; a copy would cost stack.
    let packet = &F::Addr::scratch()?.packet;
    let scratch = F::Addr::scratch()?;
    open::<F>(skb, node, vni, packet, scratch.state == State::Stale as u32, scratch)
}

#[inline(never)]
fn send<F: Family>(skb: Skb, node: &Node, vni: Vni) -> Result<Verdict, Drop> {
    let Scratch { packet, flow, .. } = F::Addr::scratch()?;
    fragments::remember(vni, packet);
    forward::send::<F>(skb, node, packet, flow)
}

/// [`read`], [`find`], [`decide`] if need be, and [`send`].
#[inline(always)]
fn try_walk<F: Family>(skb: Skb, node: &Node, vni: Vni) -> Result<Verdict, Drop> {
    read::<F>(skb, vni)?;
    find::<F>(skb)?;
    if F::Addr::scratch()?.state != State::Current as u32 {
        decide::<F>(skb, node, vni)?;
    }
    send::<F>(skb, node, vni)
}

/// Decides what becomes of a flow, and remembers it: the long way, taken by a flow's first packet. `is_known` if
/// something was decided for it before.
#[inline(always)]
fn open<F: Family>(
    skb: Skb,
    node: &Node,
    vni: Vni,
    packet: &Packet<F::Addr>,
    is_known: bool,
    scratch: &mut Scratch<F::Addr>,
) -> Result<(), Drop> {
    let Scratch { flow, known, reply_key, .. } = scratch;
    let known = if is_known { Some(&*known) } else { None };
    flow::begin(flow, packet, From::Port, skb.ifindex());
    if packet.key.dst.is_multicast() {
        return Err(Drop::Multicast);
    }
    let origin = guard::check::<F>(skb, node, vni, packet)?;
    let is_known = known.is_some_and(|known| known.forward == 1 || flow::holds::<F>(known, vni));
    let known = known.filter(|_| is_known);
    if let Some(known) = known {
        flow.tcp_state = known.tcp_state;
        flow.midway = known.midway;
    }
    let mut to_host = false;
    let mut asker = None;
    match known {
        Some(reply) if reply.forward == 0 => {
            flow::carry_on(flow, reply);
            to_host = flow::action(reply) == Action::ToHost;
            if flow::is_for_peer_itself(reply) {
                asker = Some(Target::asker(node, reply));
            }
        }
        _ => match lb::choose::<F>(vni, packet, known)? {
            Choice::NoService => {
                if known.is_none() && origin == Origin::Pod && is_of_lost_flow::<F>(packet, reply_key) {
                    return Err(Drop::FlowLost);
                }
            }
            // The host's own service proxy has had its say already.
            Choice::LeaveToHost { .. } if origin == Origin::Host => return Err(Drop::NoRoute),
            Choice::LeaveToHost { service } => {
                flow.service = service.id;
                flow.ttl_ms = service.flow_ttl_ms;
                to_host = true;
            }
            Choice::Backend { service, id, backend } => {
                flow.service = service.id;
                flow.backend = id;
                flow.ttl_ms = service.flow_ttl_ms;
                flow.rewrite = Rewrite::Destination as u8;
                flow.dst = backend.addr;
                flow.dst_port = backend.port;
            }
        },
    }
    let balanced = flow.rewrite == Rewrite::Destination as u8;
    let target = if to_host {
        Target::host(node)
    } else if let Some(asker) = asker {
        asker
    } else {
        forward::resolve::<F>(node, vni, flow.src, flow.dst, origin, balanced)?
    };
    if flow.forward == 1 && !to_host {
        let is_hairpin = balanced
            && match origin {
                Origin::Pod => target.action == Action::ToPod && target.ifindex == skb.ifindex(),
                Origin::Host => target.action == Action::ToHost,
            };
        let from = if is_hairpin {
            // Nobody takes anything from an address of his own; and what the host sends on for its own processes must
            // come back here.
            let gateway = F::gateway(node);
            let from = if origin == Origin::Host { gateway.service_loopback() } else { gateway };
            if from == F::Addr::NONE {
                return Err(Drop::Hairpin);
            }
            from
        } else {
            packet.key.src
        };
        leave_from::<F>(packet, is_known, from, scratch)?;
    }
    let Scratch { flow, known, reply, reply_key, .. } = scratch;
    if target.action == Action::ToHost
        && origin == Origin::Pod
        && guard::is_vxlan(node, &packet.key, flow.dst_port)
    {
        return Err(Drop::PodVxlan);
    }
    flow.action = target.action as u8;
    flow.to_ifindex = target.ifindex;
    flow.to_vtep = target.vtep;
    flow.next_hop = target.next_hop;
    flow.dst_mac = target.dst_mac;
    flow.src_mac = target.src_mac;

    if flow.forward == 1 && (flow.rewrite != Rewrite::None as u8 || origin == Origin::Host) {
        keep_reply_half::<F>(skb, node, packet, flow, &target, origin, (reply_key, reply, is_known))?;
    }
    // A packet can go on without this entry, so a full table costs it speed and nothing else.
    let _ = F::Addr::keep_flow(&packet.key, flow);
    if balanced && !(is_known && known.backend == flow.backend) {
        count::service(flow.service, |stats| stats.new_flows += 1);
    }
    Ok(())
}

/// True for a reset of a connection that, as far as anybody knows, began with a packet in the middle of it, to which this is
/// the answer.
///
/// A full table evicts halves of pairs one by one. When a service's reply half is lost, a reply reaches the client as the
/// backend sent it; the client knows nobody there, and would end the connection. The backend sends it again until
/// the client's next request has put the half back.
#[inline(always)]
fn is_of_lost_flow<F: Family>(packet: &Packet<F::Addr>, reply_key: &mut FlowKey<F::Addr>) -> bool {
    if packet.tcp_flags & tcp_flags::RST == 0 {
        return false;
    }
    *reply_key = packet.key.reversed();
    match F::Addr::find_flow(reply_key) {
        // SAFETY: map values stay valid for the whole run.
        Some(there) => unsafe { (*there).midway != 0 && (*there).forward != 0 },
        None => false,
    }
}

/// Decides that the packets of `flow` leave from address `from`, and from which port.
#[inline(always)]
fn leave_from<F: Family>(
    packet: &Packet<F::Addr>,
    is_known: bool,
    from: F::Addr,
    scratch: &mut Scratch<F::Addr>,
) -> Result<(), Drop> {
    let Scratch { flow, known, .. } = scratch;
    flow.src = from;
    if is_known && known.backend == flow.backend && known.src == from {
        // It has one.
        flow.src_port = known.src_port;
    } else if flow.backend == 0
        && (packet.is_fragment() || packet.key.protocol() == TCP && !packet.opens_connection())
    {
        // In the middle of a connection it is too late; or of a datagram, whose other fragments may be gone already.
    } else if matches!(packet.key.protocol(), TCP | UDP | SCTP)
        && !packet.is_later_fragment()
        && !F::settle_source(scratch)
    {
        return Err(Drop::NoSourcePort);
    }
    let flow = &mut scratch.flow;
    if flow.src_port != packet.key.src_port {
        flow.rewrite = Rewrite::Destination as u8;
    }
    flow.checksum_delta = packet.key.checksum_delta(flow.src, flow.dst);
    Ok(())
}

/// Keeps the half that the replies of `flow` will find: back to whoever sent `packet`, with the VIP as source.
///
/// What the host sends has one too, without a rewrite: its replies belong to the host's stack even if their
/// address is a pod's, because it may be forwarding for that pod.
#[inline(always)]
fn keep_reply_half<F: Family>(
    skb: Skb,
    node: &Node,
    packet: &Packet<F::Addr>,
    flow: &Flow<F::Addr>,
    target: &Target,
    origin: Origin,
    (reply_key, reply, is_known): (&mut FlowKey<F::Addr>, &mut Flow<F::Addr>, bool),
) -> Result<(), Drop> {
    let key = &packet.key;
    *reply_key = key.answered(flow);
    if origin == Origin::Host && guard::is_vxlan(node, reply_key, reply_key.dst_port) {
        // Guard must see each of these replies.
        return Ok(());
    }
    if origin == Origin::Host
        && flow.rewrite == Rewrite::None as u8
        && let Some(there) = F::Addr::find_flow(reply_key)
        // SAFETY: map values stay valid for the whole run.
        && flow::action(unsafe { &*there }) == Action::ToHost
    {
        // The host answers, and what it answers comes to it already: that flow knows its service, which this
        // half would not.
        return Ok(());
    }
    *reply = *flow;
    if is_known && let Some(there) = F::Addr::find_flow(reply_key) {
        // How far the backend has come is its own affair.
        // SAFETY: as above.
        reply.tcp_state = unsafe { (*there).tcp_state };
    }
    reply.forward = 0;
    reply.to_vtep = 0;
    reply.next_hop = 0;
    (reply.src, reply.src_port) = (key.dst, key.dst_port);
    (reply.dst, reply.dst_port) = (key.src, key.src_port);
    reply.checksum_delta = reply_key.checksum_delta(reply.src, reply.dst);
    reply.rewrite =
        if flow.rewrite == Rewrite::None as u8 { Rewrite::None as u8 } else { Rewrite::Source as u8 };
    reply.src_mac = Mac::GATEWAY;
    (reply.action, reply.to_ifindex, reply.dst_mac) = match origin {
        Origin::Pod => (Action::ToPod as u8, skb.ifindex(), packet.src_mac),
        Origin::Host => (Action::ToHost as u8, node.host_ifindex, node.host_mac),
    };
    (reply.from_ifindex, reply.from_mac, reply.from_vtep) = match target.action {
        Action::ToPod => (target.ifindex, target.dst_mac, 0),
        Action::ToOverlay => (0, Mac::NONE, target.vtep),
        Action::ToHost => (node.host_port_ifindex, node.host_mac, 0),
    };
    F::Addr::keep_flow(reply_key, reply)
}
