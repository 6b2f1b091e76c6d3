//! Routes: which node holds which pod prefix, and which nodes there are.

use crate::{Mac, Vni};

/// Data of a longest-prefix key: the VNI first, so that prefixes of one VNI share a subtree. A prefix of
/// `n` bits is looked up as `32 + n` bits. Written by the agent, read by forward and by the arrival check.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RouteKey<A> {
    /// VNI in network byte order.
    vni: u32,
    /// Address.
    pub addr: A,
}

impl<A> RouteKey<A> {
    /// Bits of the key before the address.
    pub const VNI_BITS: u32 = 32;

    /// Names `addr` in `vni`.
    #[inline(always)]
    pub const fn new(vni: Vni, addr: A) -> Self {
        Self { vni: vni.get().to_be(), addr }
    }

    /// VNI the address is in.
    pub const fn vni(&self) -> u32 {
        u32::from_be(self.vni)
    }
}

/// The way to a remote pod prefix.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Tunnel end, network byte order.
    pub vtep: u32,
    /// Underlay next hop towards it, network byte order; 0 lets the kernel look it up.
    pub next_hop: u32,
    /// Inner destination MAC that the tunnel end wants to see; [`Mac::NONE`] for Beeline nodes, which take
    /// the one derived from the pod's address.
    pub mac: Mac,
    /// Zero.
    pub pad: u16,
}

/// A node that may send us VXLAN. The key of its map is its underlay address, network byte order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Zero.
    pub flags: u32,
}

const _: () = assert!(size_of::<RouteKey<crate::Inet4>>() == 8);
const _: () = assert!(size_of::<RouteKey<crate::Inet6>>() == 20);
const _: () = assert!(size_of::<Route>() == 16);
const _: () = assert!(size_of::<Peer>() == 4);
