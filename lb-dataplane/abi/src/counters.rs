//! Counters: why packets are dropped, which way they go, and what each service does.
//!
//! All are per CPU and only ever grow. Each list below is the one place where its names are given.

/// Makes an enumeration that indexes a per-CPU array, with a name and a sentence for each value.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal: $help:literal,)+ }) => {
        $(#[$doc])*
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $(#[doc = $help] $variant,)+ }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name used in tables, metrics and docs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }
        }
    };
}

counters! {
    /// Why a packet was dropped; the index into `DROPS`.
    Drop {
        Malformed = "malformed": "The packet is shorter than its headers say, or a header makes no sense.",
        NotIp = "not_ip": "A port, or a peer in VXLAN, sent something that is not IP of a family in use, such as ARP.",
        VlanTagged = "vlan_tagged": "A port sent a frame with a VLAN tag, which would have left the node with it.",
        NeighbourDiscovery = "neighbour_discovery": "IPv6 neighbour discovery from a port or a peer: the overlay does without, and believes none.",
        ExtensionHeader = "extension_header": "An IPv6 packet with extension headers that the overlay does not carry: Routing, more than four or 144 bytes, or any after Fragment.",
        Multicast = "multicast": "A port sent to a multicast address, where nobody listens in the overlay; kernels do so by themselves when they join an IPv6 group.",
        ForgedSource = "forged_source": "A port sent from an address that is not its own.",
        ForgedMac = "forged_mac": "A port sent from a MAC that is not its own.",
        PodVxlan = "pod_vxlan": "A pod sent UDP to the VXLAN port by way of the host, which a node might take for a peer's.",
        SpoofedPod = "spoofed_pod": "A packet came from the underlay outside VXLAN with a pod's address as its source.",
        UnknownVni = "unknown_vni": "VXLAN arrived with a VNI that is not ours.",
        UnknownVtep = "unknown_vtep": "VXLAN arrived from an address that is no peer.",
        ForgedInnerSource = "forged_inner_source": "VXLAN arrived from a peer that does not own the inner source address.",
        NoEndpoint = "no_endpoint": "VXLAN arrived for an address that no endpoint of this node has.",
        NoBackend = "no_backend": "The service has no backend. The client is told (RST, or ICMP port unreachable).",
        NoLocalBackend = "no_local_backend": "The service takes only backends of this node, and there is none: dropped in silence.",
        SourceRange = "source_range": "A load balancer's address was asked from outside the service's source ranges: dropped in silence.",
        NoFrontend = "no_frontend": "A service's address was asked at a port where no service is. The client is told.",
        BackendGone = "backend_gone": "The backend of a TCP connection is gone. The client is told (RST).",
        Hairpin = "hairpin": "A service led a pod to itself, or a node's own process to the host's stack, on a node without an address in the overlay.",
        NoSourcePort = "no_source_port": "Every port that the request could leave from is taken by another one to the same backend.",
        NoRoute = "no_route": "The host's own port sent to an address that no endpoint and no route covers.",
        FragmentWithoutFirst = "fragment_without_first": "A later fragment came to a virtual address before its datagram's first one, which alone says for which service it is.",
        SctpFragment = "sctp_fragment": "A fragment of an SCTP packet whose port had to change, which its checksum over the whole packet does not allow.",
        TtlExceeded = "ttl_exceeded": "The time to live ran out.",
        FlowLost = "flow_lost": "A pod reset a connection of which it got a packet as no service had sent it: the flow entry that would have changed it is lost. The other side sends it again.",
        PacketTooBig = "packet_too_big": "A port sent a packet that is larger than the overlay carries. Its sender is told by how much (ICMP).",
        FlowTableFull = "flow_table_full": "A flow entry that the packet cannot do without could not be written.",
        EncapFailed = "encap_failed": "The kernel refused to make room for the VXLAN header, or to take it away.",
        NotReady = "not_ready": "The agent has not set the node up yet.",
    }
}

counters! {
    /// Which way a packet went; the index into `HOPS`.
    Hop {
        PortToPort = "port_to_port": "From a port straight into a pod on the same node.",
        PortToOverlay = "port_to_overlay": "From a port into VXLAN and out of the uplink, past the host's stack.",
        PortToHost = "port_to_host": "From a port up into the host's own stack.",
        UplinkToPort = "uplink_to_port": "From the uplink out of VXLAN straight into a pod, past the host's stack.",
        UplinkToHost = "uplink_to_host": "From the uplink out of VXLAN up into the host's own stack.",
        OverlayToPort = "overlay_to_port": "Decapsulated by the kernel's VXLAN device (slow path), then into a pod.",
        Answered = "answered": "Turned around at its port into an RST or an ICMP error to its sender; the reason is among the drops.",
        OverlayToHost = "overlay_to_host": "Decapsulated by the kernel's VXLAN device (slow path), then up into the host's own stack.",
    }
}

/// What one service did on one CPU. Written by the programs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceStats {
    /// Request packets sent to a backend here, past the host's stack.
    pub packets: u64,
    /// Their bytes, as long as they came from the client, Ethernet header included.
    pub bytes: u64,
    /// Flows that were given a backend.
    pub new_flows: u64,
    /// Reply packets whose source was turned back into the VIP.
    pub replies_undone: u64,
    /// Request packets that went to the host's stack: DSR is off, or the backend is reached through it.
    pub via_host: u64,
}

const _: () = assert!(size_of::<ServiceStats>() == 40);
