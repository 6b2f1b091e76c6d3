//! Fragments: which ports the datagram has that a fragment is of.

use crate::{Be16, Vni};

/// Names a datagram that travels in fragments, as both families do (RFC 791 §3.2, RFC 8200 §4.5). Written and read by
/// the programs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FragmentKey<A> {
    /// Source address, as the fragments carry it when they reach a program.
    pub src: A,
    /// Destination address, likewise.
    pub dst: A,
    /// Identification, as it is on the wire; IPv4's has 16 bits.
    pub id: u32,
    /// VNI in the upper 24 bits, IP protocol in the lower 8: as in a flow's key.
    scope: u32,
}

impl<A> FragmentKey<A> {
    /// Names the datagram `id` from `src` to `dst`.
    #[inline(always)]
    pub const fn new(vni: Vni, protocol: u8, src: A, dst: A, id: u32) -> Self {
        Self { src, dst, id, scope: vni.get() << 8 | protocol as u32 }
    }
}

/// What the first fragment of a datagram said. Written and read by the programs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentPorts {
    /// Coarse monotonic time at which it came, in nanoseconds.
    pub seen: u64,
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<FragmentKey<crate::Inet4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<crate::Inet6>>() == 40);
const _: () = assert!(size_of::<FragmentPorts>() == 16);
