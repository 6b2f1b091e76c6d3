//! Source: under which port a request leaves, so that its replies find back to it and to nobody else.
//!
//! Two connections of one client may look alike to their backend: by two VIPs, or by a VIP and the backend's own
//! address, from one port. And a pod that reaches itself speaks from the node's address, which others use too. The
//! later one then leaves from another port.

use beeline_abi::{Address, Flow, FlowKey, Inet4, Inet6, Rewrite, TcpState, source_port};

use crate::{
    flow,
    maps::{Scratch, Tables},
};

/// Ports that are tried, besides the client's own.
const TRIES: u32 = 6;

/// Gives the flow in `scratch`, which the packet there begins, a source port that leaves no doubt whose its replies are, if
/// there is one.
#[inline(always)]
fn settle<A: Tables>(scratch: *mut Scratch<A>) -> bool {
    if scratch.is_null() {
        return false;
    }
    // SAFETY: the caller's own, which it does not touch meanwhile.
    let Scratch { packet, flow, reply_key, wire_key, .. } = unsafe { &mut *scratch };
    let mut attempt = 0;
    while attempt <= TRIES {
        *reply_key = packet.key.answered(flow);
        *wire_key = reply_key.reversed();
        if is_free(&packet.key, reply_key, wire_key) {
            return true;
        }
        flow.src_port = source_port(&packet.key, attempt);
        attempt += 1;
    }
    false
}

// Exported, so that the verifier looks at each once, by itself, and not in every state that a caller may be in. That they
// take pointers is what it wants to see.

/// [`settle`] for IPv4. Not 0 if there is a port.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn settle4(scratch: *mut Scratch<Inet4>) -> u32 {
    u32::from(settle(scratch))
}

/// [`settle`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn settle6(scratch: *mut Scratch<Inet6>) -> u32 {
    u32::from(settle(scratch))
}

/// True if no other live pair has these names on the wire.
#[inline(always)]
fn is_free<A: Tables>(key: &FlowKey<A>, reply_key: &FlowKey<A>, wire_key: &FlowKey<A>) -> bool {
    if let Some(there) = A::find_flow(reply_key) {
        // SAFETY: map values stay valid for the whole run.
        let there = unsafe { &*there };
        if there.forward == 0 {
            // Of one that the host forwarded, only the end of this half is known.
            let is_half_over =
                there.rewrite == Rewrite::None as u8 && there.tcp_state >= TcpState::HalfClosed as u8;
            if is_half_over || !is_alive(there) {
                // What was left for the replies of one that is over would be done to those of this one.
                A::forget_flow(reply_key);
            } else if !answers(there, key) {
                return false;
            }
        }
    }
    if wire_key == key {
        return true;
    }
    match A::find_flow(wire_key) {
        // SAFETY: as above.
        Some(there) => {
            let there = unsafe { &*there };
            there.forward == 0 || there.backend != 0 || !is_alive(there)
        }
        None => true,
    }
}

/// True if `reply` is the half for the replies to `key`.
#[inline(always)]
fn answers<A: Address>(reply: &Flow<A>, key: &FlowKey<A>) -> bool {
    reply.dst_port == key.src_port
        && reply.src_port == key.dst_port
        && reply.dst == key.src
        && reply.src == key.dst
}

#[inline(always)]
fn is_alive<A: Tables>(flow: &Flow<A>) -> bool {
    flow.tcp_state != TcpState::Closed as u8 && !flow::is_expired(flow) && flow::has_backend(flow)
}
