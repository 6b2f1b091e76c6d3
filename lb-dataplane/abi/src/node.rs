//! What every program must know about the node it runs on.

use crate::{Be16, Inet4, Inet6, Mac};

/// The only entry of `NODE`. Written by the agent; read by every program and every tool.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// [`crate::VERSION`] of whoever made the maps.
    pub abi_version: u32,
    /// VNI of the pod network.
    pub vni: u32,
    /// This node's underlay address: the outer source of what it sends. Network byte order.
    pub vtep: u32,
    /// Interface that carries the underlay.
    pub uplink_ifindex: u32,
    /// The host's own device: what is for the host is received here (`beeline0`).
    pub host_ifindex: u32,
    /// The host's own port: the other end of its veth pair, with `from_pod` on it.
    pub host_port_ifindex: u32,
    /// MAC of the host's own device.
    pub host_mac: Mac,
    /// UDP port of VXLAN.
    pub vxlan_port: Be16,
    /// What `bpf_l4_csum_replace` must be told when an IPv6 address changes (`BPF_F_IPV6`), if this kernel knows it.
    pub ipv6_checksum_flags: u32,
    /// This node's IPv4 address in the overlay: pods see it as a router's, and in their own place if they reach
    /// themselves through a service. 0 for none.
    pub gateway4: Inet4,
    /// Digest of the object that the pinned programs came from: an agent with the same one has nothing to load.
    pub object: u64,
    /// The IPv6 address; likewise.
    pub gateway6: Inet6,
    /// Bytes of the largest IP packet that the overlay carries: the uplink's MTU less what VXLAN adds.
    pub overlay_mtu: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Node>() == 72);
