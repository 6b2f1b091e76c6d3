//! Endpoints: the pods of this node, and the node itself, as the dataplane knows them.

use crate::{Mac, Vni};

/// Names an endpoint by its address. Written by the plugin (pods) and the agent (host); read by guard and forward.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointKey<A> {
    /// Address.
    pub addr: A,
    /// VNI the address is in.
    pub vni: u32,
}

impl<A> EndpointKey<A> {
    /// Names `addr` in `vni`.
    #[inline(always)]
    pub const fn new(vni: Vni, addr: A) -> Self {
        Self { addr, vni: vni.get() }
    }
}

/// What an endpoint is.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndpointKind {
    /// A pod: `ifindex` is its port, the host end of its veth pair.
    Pod = 0,
    /// This node: `ifindex` is the device on which it receives (`beeline0`).
    Host = 1,
}

/// Where an endpoint is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Interface; meaning as [`EndpointKind`] says.
    pub ifindex: u32,
    /// The endpoint's own MAC: what it sends from and is delivered to.
    pub mac: Mac,
    /// An [`EndpointKind`].
    pub kind: u8,
    /// Zero.
    pub pad: u8,
}

impl Endpoint {
    /// An endpoint of `kind` behind interface `ifindex`.
    #[must_use]
    pub const fn new(kind: EndpointKind, ifindex: u32, mac: Mac) -> Self {
        Self { ifindex, mac, kind: kind as u8, pad: 0 }
    }

    /// True for this node itself.
    #[inline(always)]
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.kind == EndpointKind::Host as u8
    }
}

const _: () = assert!(size_of::<EndpointKey<crate::Inet4>>() == 8);
const _: () = assert!(size_of::<EndpointKey<crate::Inet6>>() == 20);
const _: () = assert!(size_of::<Endpoint>() == 12);
