//! Flows: what becomes of the packets of one 5-tuple, decided once and remembered.

use crate::{Address, Be16, Mac, Vni, add_checksums};

/// Names a flow: the 5-tuple as the packet carries it when it reaches a program, within one VNI.
///
/// Written and read by the programs; read by `beelinectl flows`. ICMP and other protocols have ports 0.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// VNI in the upper 24 bits, IP protocol in the lower 8.
    scope: u32,
}

impl<A: Address> FlowKey<A> {
    /// Names the flow of a packet from `src` to `dst`.
    #[inline(always)]
    pub const fn new(vni: Vni, protocol: u8, src: (A, Be16), dst: (A, Be16)) -> Self {
        Self {
            src: src.0,
            dst: dst.0,
            src_port: src.1,
            dst_port: dst.1,
            scope: vni.get() << 8 | protocol as u32,
        }
    }

    /// Names the flow of the packets that go the other way.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            scope: self.scope,
        }
    }

    /// Names the flow of the packets that answer what `flow`, named by this key, has made of its own: the other half
    /// of its pair.
    #[inline(always)]
    #[must_use]
    pub const fn answered(&self, flow: &Flow<A>) -> Self {
        Self {
            src: flow.dst,
            dst: flow.src,
            src_port: flow.dst_port,
            dst_port: flow.src_port,
            scope: self.scope,
        }
    }

    /// Checksum difference that new addresses make, as `bpf_csum_diff` gives it.
    #[inline(always)]
    pub fn checksum_delta(&self, src: A, dst: A) -> u32 {
        let mut delta = 0;
        if self.src != src {
            delta = self.src.checksum_delta(src);
        }
        if self.dst != dst {
            delta = add_checksums(delta, self.dst.checksum_delta(dst));
        }
        delta
    }

    /// IP protocol number.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.scope & 0xff) as u8
    }

    /// VNI the flow is in.
    pub const fn vni(&self) -> u32 {
        self.scope >> 8
    }
}

/// Where a flow's packets go.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// To a pod on this node, straight into its namespace (`bpf_redirect_peer` on `to_ifindex`).
    ToPod = 1,
    /// To another node: VXLAN to `to_vtep` out of `to_ifindex` by way of `next_hop`.
    ToOverlay = 2,
    /// To this node's own stack, as if received on `to_ifindex`.
    ToHost = 3,
}

impl Action {
    /// Reads the byte in [`Flow::action`]; `None` for a byte that names no action.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::ToPod),
            2 => Some(Self::ToOverlay),
            3 => Some(Self::ToHost),
            _ => None,
        }
    }
}

/// Whether a flow changes its packets' addresses and ports to those of [`Flow`], and why.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrite {
    /// Nothing.
    None = 0,
    /// A request on its way from VIP to backend. Its source changes too where replies would not find back otherwise.
    Destination = 1,
    /// A reply on its way from backend to VIP: what was done to the request is undone.
    Source = 2,
}

/// How far a TCP connection has come, as far as packets of this direction tell, and the end of the other's.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpState {
    /// Not TCP.
    None = 0,
    /// SYNs seen, and nothing else: one more is the same connection's.
    Opening = 1,
    /// More seen. A SYN is another connection's from here on.
    Established = 2,
    /// FIN seen, in this direction.
    HalfClosed = 3,
    /// FIN seen in both directions, or RST in one.
    Closed = 4,
}

impl TcpState {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;

    /// State, as it stands in [`Flow::tcp_state`], of a flow whose first packet has these TCP flags (the header's byte 13).
    #[inline(always)]
    #[must_use]
    pub const fn first(flags: u8) -> u8 {
        let opening = flags & Self::SYN != 0;
        Self::next(if opening { Self::Opening as u8 } else { Self::Established as u8 }, flags)
    }

    /// State after `state` once a packet with these flags has passed. What has none, an ICMP error about the connection or a
    /// later fragment, tells nothing.
    #[inline(always)]
    #[must_use]
    pub const fn next(state: u8, flags: u8) -> u8 {
        if state == Self::None as u8 || state == Self::Closed as u8 {
            state
        } else if flags & Self::RST != 0 {
            Self::Closed as u8
        } else if flags & Self::FIN != 0 {
            Self::HalfClosed as u8
        } else if flags & (Self::SYN | Self::ACK) == Self::ACK && state == Self::Opening as u8 {
            Self::Established as u8
        } else {
            state
        }
    }

    /// Idle time to live of a flow in `state`, in milliseconds; `other` is that of what is not TCP.
    ///
    /// Of an established connection nobody hears anything but keep-alives, every two hours (RFC 9293 §3.8.4), if any:
    /// what a table that evicts the idlest first can afford is kube-proxy's day. Half of one may be silent for as long as
    /// an answer takes: its hour. A SYN is repeated within seconds, at the last after 64 (Linux), and
    /// the last packets of a connection that is over come within seconds.
    #[inline(always)]
    #[must_use]
    pub const fn ttl_ms(state: u8, other: u32) -> u32 {
        const SECOND: u32 = 1_000;
        if state == Self::None as u8 {
            other
        } else if state == Self::Opening as u8 {
            70 * SECOND
        } else if state == Self::Established as u8 {
            86_400 * SECOND
        } else if state == Self::HalfClosed as u8 {
            3_600 * SECOND
        } else {
            10 * SECOND
        }
    }
}

/// All that the packets of a flow need, so that an established flow costs one look-up.
///
/// Written and read by the programs; read by `beelinectl flows`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow<A: Address> {
    /// Value of `EPOCH` when the destination was resolved; another value there means: resolve again.
    pub epoch: u64,
    /// Coarse monotonic time of a recent packet, in nanoseconds; refreshed at most once a second.
    pub last_seen: u64,
    /// Idle time to live, in milliseconds, of what is not TCP; of TCP see [`TcpState::ttl_ms`].
    pub ttl_ms: u32,
    /// Interface its packets must come in on, if they come from a port (guard).
    pub from_ifindex: u32,
    /// Outer source address its packets must carry, if they come from the overlay; 0 if they come from a port.
    pub from_vtep: u32,
    /// Interface its packets leave by; meaning as [`Action`] says.
    pub to_ifindex: u32,
    /// Tunnel end, network byte order; 0 unless `action` is [`Action::ToOverlay`].
    pub to_vtep: u32,
    /// Underlay next hop towards the tunnel end, network byte order; 0 lets the kernel look it up.
    pub next_hop: u32,
    /// Service that chose the destination; 0 for none.
    pub service: u32,
    /// Backend chosen; 0 for none.
    pub backend: u32,
    /// Source address its packets leave with; as they came, unless `rewrite` says otherwise.
    pub src: A,
    /// Destination address they leave with; likewise.
    pub dst: A,
    /// Checksum difference that the new addresses make, as `bpf_csum_diff` gives it.
    pub checksum_delta: u32,
    /// Source port they leave with; likewise.
    pub src_port: Be16,
    /// Destination port they leave with; likewise.
    pub dst_port: Be16,
    /// MAC its packets must come from, if they come from a port (guard).
    pub from_mac: Mac,
    /// Destination MAC written.
    pub dst_mac: Mac,
    /// Source MAC written.
    pub src_mac: Mac,
    /// An [`Action`].
    pub action: u8,
    /// A [`Rewrite`].
    pub rewrite: u8,
    /// A [`TcpState`].
    pub tcp_state: u8,
    /// 1 on the half that came with the request, 0 on the half made for its replies.
    pub forward: u8,
    /// 1 if the first packet seen was of the middle of a TCP connection: what there was of it before is lost, or never
    /// came this way.
    pub midway: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<FlowKey<crate::Inet4>>() == 16);
const _: () = assert!(size_of::<FlowKey<crate::Inet6>>() == 40);
const _: () = assert!(size_of::<Flow<crate::Inet4>>() == 88);
const _: () = assert!(size_of::<Flow<crate::Inet6>>() == 112);
