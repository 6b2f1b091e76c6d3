//! Beeline's TC programs, one for each place that packets pass.
//!
//! Here are only the entry points. A packet's walk is told by [`port`] (what a pod sends) and [`arrival`] (what
//! other nodes send), which call the layers: parse → guard → lb → flow → forward.

#![no_std]
#![no_main]

mod affinity;
mod answer;
mod arrival;
mod count;
mod extensions;
mod family;
mod flow;
mod forward;
mod fragments;
mod guard;
mod icmp;
mod ipv4;
mod ipv6;
mod lb;
mod maps;
mod port;
mod rewrite;
mod sctp;
mod skb;
mod source;
mod vxlan;

use aya_ebpf::{macros::classifier, programs::TcContext};
use beeline_abi::Drop;

use crate::skb::Skb;

/// What becomes of a packet, in the kernel's numbers.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Verdict(i32);

impl Verdict {
    /// Not ours: whatever comes next in the chain decides (`TCX_NEXT`, `TC_ACT_UNSPEC`).
    const NEXT: Self = Self(-1);
    /// Dropped.
    const SHOT: Self = Self(2);
}

/// What a layer may answer instead of a result.
enum Stop {
    /// Drop the packet and count why.
    Drop(Drop),
    /// Not ours.
    Next,
}

impl From<Drop> for Stop {
    #[inline(always)]
    fn from(reason: Drop) -> Self {
        Self::Drop(reason)
    }
}

/// Ingress of a port: what a pod, or the host as a pod, sends.
#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    finish(port::from_port(Skb::new(&ctx))).0
}

/// Ingress of the uplink: what arrives from the underlay.
#[classifier]
pub fn from_uplink(ctx: TcContext) -> i32 {
    finish(arrival::from_uplink(Skb::new(&ctx))).0
}

/// Ingress of the kernel's vxlan device: what its stack has decapsulated (the slow path).
#[classifier]
pub fn from_overlay(ctx: TcContext) -> i32 {
    finish(arrival::from_overlay(Skb::new(&ctx))).0
}

#[inline(always)]
fn finish(result: Result<Verdict, Stop>) -> Verdict {
    match result {
        Ok(verdict) => verdict,
        Err(Stop::Next) => Verdict::NEXT,
        Err(Stop::Drop(reason)) => {
            count::drop(reason);
            Verdict::SHOT
        }
    }
}

/// The kernel offers its helpers only to programs under a GPL-compatible licence.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
