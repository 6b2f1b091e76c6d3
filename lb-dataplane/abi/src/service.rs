//! Services: frontends, backends, and the table that maps one to the other.

use crate::Be16;

/// Names a frontend: VIP, port and protocol within one VNI. Written by the agent, read by `lb`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrontendKey<A> {
    /// Virtual address.
    pub vip: A,
    /// VNI in the upper 24 bits, IP protocol in the lower 8: as in a flow's key.
    pub scope: u32,
    /// Virtual port.
    pub port: Be16,
    /// Zero.
    pub pad: u16,
}

impl<A> FrontendKey<A> {
    /// Names `vip:port/protocol` in `vni`.
    #[inline(always)]
    pub const fn new(vni: crate::Vni, protocol: u8, vip: A, port: Be16) -> Self {
        Self { vip, scope: vni.get() << 8 | protocol as u32, port, pad: 0 }
    }

    /// Stands for `vip` as such: there if some service is balanced there, whatever its port and protocol.
    #[inline(always)]
    pub const fn any(vni: crate::Vni, vip: A) -> Self {
        Self::new(vni, 0, vip, Be16(0))
    }

    /// The entry for this frontend's address as such.
    #[must_use]
    pub const fn address(self) -> Self
    where
        A: Copy,
    {
        Self { vip: self.vip, scope: self.scope & !0xff, port: Be16(0), pad: 0 }
    }

    /// Whether it stands for an address as such.
    pub const fn is_address(&self) -> bool {
        self.protocol() == 0
    }

    /// IP protocol number.
    pub const fn protocol(&self) -> u8 {
        (self.scope & 0xff) as u8
    }

    /// VNI the frontend is in.
    pub const fn vni(&self) -> u32 {
        self.scope >> 8
    }
}

/// What a frontend stands for. Written by the agent, read by `lb`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// Idle time to live of its flows, in milliseconds.
    pub flow_ttl_ms: u32,
    /// Names the service in `SERVICE_STATS`, `SERVICE_NAMES` and its backends; from 1 up.
    pub id: u32,
    /// Names its table in `MAGLEV`; 0 when there is no backend.
    pub table: u32,
    /// Slots in its Maglev table; 0 when there is no backend.
    pub slots: u32,
    /// Backends behind it.
    pub backends: u32,
    /// Time after which a client that has sent nothing may get another backend, in seconds; with
    /// [`Service::CLIENT_IP_AFFINITY`].
    pub affinity_timeout_s: u32,
    /// [`Service::DSR`] | [`Service::CLIENT_IP_AFFINITY`] | [`Service::SILENT`] | [`Service::ALL_PORTS`] |
    /// [`Service::SOURCE_RANGES`].
    pub flags: u32,
}

impl Service {
    /// Balanced here, with replies going straight back; else left to whatever the host has.
    pub const DSR: u32 = 1;
    /// One client address gets the backend it had last.
    pub const CLIENT_IP_AFFINITY: u32 = 2;
    /// Without backends, requests are dropped in silence; else their senders are told.
    pub const SILENT: u32 = 4;
    /// On a [`FrontendKey::any`]: the address is nobody's but services', and other ports of it are refused.
    pub const ALL_PORTS: u32 = 8;
    /// At this frontend, only clients in one of the service's [`SourceRange`]s begin anything.
    pub const SOURCE_RANGES: u32 = 16;

    /// True if all of `flag` is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag == flag
    }
}

/// Data of a longest-prefix key: the service first, so that its ranges share a subtree. A range of `n` bits is looked up as
/// `32 + n` bits. Written by the agent, read by `lb`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourceRangeKey<A> {
    /// [`Service::id`].
    pub service: u32,
    /// Address.
    pub addr: A,
}

impl<A> SourceRangeKey<A> {
    /// Bits of the key before the address.
    pub const SERVICE_BITS: u32 = 32;
}

/// Clients that may ask a service where it is not open to all. That it is there says all.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SourceRange {
    /// Zero.
    pub flags: u32,
}

/// A backend: one address and port behind a service. Written by the agent, read by `lb`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Backend<A> {
    /// Address.
    pub addr: A,
    /// Service it belongs to: the same address behind two services is two backends.
    pub service: u32,
    /// Port.
    pub port: Be16,
    /// [`Backend::DRAINING`], or 0.
    pub flags: u16,
}

impl<A> Backend<A> {
    /// In no Maglev table: established TCP connections go on, all else is given another backend.
    pub const DRAINING: u16 = 1;

    /// True unless it drains.
    #[inline(always)]
    #[must_use]
    pub const fn takes_new_flows(&self) -> bool {
        self.flags & Self::DRAINING == 0
    }
}

/// Names a client of a service. Written and read by `affinity`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AffinityKey<A> {
    /// Its address.
    client: A,
    /// The service.
    service: u32,
}

impl<A> AffinityKey<A> {
    /// Names `client` of `service`.
    #[inline(always)]
    pub const fn new(client: A, service: u32) -> Self {
        Self { client, service }
    }
}

/// The backend that a client had last.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// Coarse monotonic time of a packet of its, in nanoseconds, as of a second or so.
    pub last_used: u64,
    /// The backend.
    pub backend: u32,
    /// Zero.
    pub pad: u32,
}

/// A service's name, UTF-8, cut to size and filled with zeroes. Written by the agent, read by people's tools.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServiceName(pub [u8; 64]);

/// Names a piece of a Maglev table. Written by the agent, read by `lb`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MaglevKey {
    /// The table: [`Service::table`].
    pub table: u32,
    /// Number of the piece, from 0.
    pub piece: u32,
}

/// A piece of a Maglev table: backend ids, one a slot. A table is written whole under a new name before a service
/// points to it, and never changes afterwards.
///
/// Pieces, because a map of maps costs an RCU grace period (some 20 ms) for each table that is replaced, and one
/// entry a slot costs a system call for each of thousands.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaglevPiece(pub [u32; Self::SLOTS]);

impl MaglevPiece {
    /// Slots of a piece.
    pub const SLOTS: usize = 256;
}

/// Slots of the Maglev table for `backends` backends: a prime, at least a hundred times as many (up to 655
/// backends), so that a backend's coming or going moves about 1 % of the others' slots (Maglev, NSDI'16, §5.3).
///
/// The steps are few, because crossing one reshuffles the table.
#[must_use]
pub const fn maglev_size(backends: usize) -> u32 {
    match backends {
        0 => 0,
        1 => 1,
        2..=10 => 1_021,
        11..=100 => 16_381,
        _ => 65_521,
    }
}

const _: () = assert!(size_of::<FrontendKey<crate::Inet4>>() == 12);
const _: () = assert!(size_of::<FrontendKey<crate::Inet6>>() == 24);
const _: () = assert!(size_of::<Service>() == 28);
const _: () = assert!(size_of::<SourceRangeKey<crate::Inet4>>() == 8);
const _: () = assert!(size_of::<SourceRangeKey<crate::Inet6>>() == 20);
const _: () = assert!(size_of::<SourceRange>() == 4);
const _: () = assert!(size_of::<Backend<crate::Inet4>>() == 12);
const _: () = assert!(size_of::<Backend<crate::Inet6>>() == 24);
const _: () = assert!(size_of::<AffinityKey<crate::Inet4>>() == 8);
const _: () = assert!(size_of::<AffinityKey<crate::Inet6>>() == 20);
const _: () = assert!(size_of::<Affinity>() == 16);
const _: () = assert!(size_of::<ServiceName>() == 64);
const _: () = assert!(size_of::<MaglevKey>() == 8);
const _: () = assert!(size_of::<MaglevPiece>() == 1024);
